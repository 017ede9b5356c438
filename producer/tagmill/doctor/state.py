"""The state folder: there, writable, with room, and in whose hands."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from tagmill.doctor.findings import Look
from tagmill.errors import StateFolderError
from tagmill.settings import Settings
from tagmill.state_folder import LEAST_FREE_BYTES, StateFolder

WHAT = "state folder"

_ANOTHER = "take another with --state-dir"


def look_at_state(settings: Settings) -> Look:
    """Look at the state folder."""
    look = Look()
    folder = StateFolder(settings.state_dir)
    there = folder.path.exists()
    nearest = folder.path if there else _nearest(folder.path)
    try:
        folder.check_format()
    except StateFolderError as error:
        look.ill(WHAT, str(error), _ANOTHER)
        return look
    if not os.access(nearest, os.W_OK | os.X_OK, effective_ids=True):
        look.ill(
            WHAT,
            f"{folder.path} cannot be {'written' if there else 'made'} by this user",
            f"let user {os.geteuid()} write to {nearest}, or {_ANOTHER}",
        )
        return look
    free = shutil.disk_usage(nearest).free
    if free < LEAST_FREE_BYTES:
        look.ill(
            WHAT,
            f"{free:,} bytes are free under {folder.path}, the least is {LEAST_FREE_BYTES:,}",
            f"make room, or {_ANOTHER}",
        )
    elif not there:
        look.note(WHAT, f"{folder.path} is made by a run, {free / 1e9:,.1f} GB free", "")
    elif folder.is_held():
        look.note(
            WHAT,
            f"{folder.path} is in use by a run, {free / 1e9:,.1f} GB free",
            f"before another run: wait for it, or {_ANOTHER}",
        )
    else:
        look.well(WHAT, f"{folder.path}, {free / 1e9:,.1f} GB free")
    return look


def _nearest(path: Path) -> Path:
    """The folder in which a path would be made."""
    return next(parent for parent in path.parents if parent.is_dir())
