"""Signals by their names: how people know them."""

from __future__ import annotations

import signal


def killed_by(signum: int) -> str:
    """The death of a process by a signal, as a phrase: ``killed by SIGSEGV``."""
    try:
        return f"killed by {signal.Signals(signum).name}"
    except ValueError:  # the real-time ones between the first and the last
        return f"killed by signal {signum}"
