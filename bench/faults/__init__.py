"""Faults: each case breaks a cluster at work on purpose, and counts what became of the items.

`bench/chaos.py` runs all of them at length, `tests/faults/` each once and short.
"""
