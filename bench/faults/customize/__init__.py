"""Folders for PYTHONPATH: what changes a program of tagmill's from its first moment on."""

from pathlib import Path

HERE = Path(__file__).parent


def path_of(name: str) -> str:
    """The folder of that name."""
    return str(HERE / name)
