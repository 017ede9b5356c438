"""The ImageNet weights: a whole HDF5 file of MobileNetV2, as far as a look tells."""

from __future__ import annotations

import mmap
from pathlib import Path

from tagmill.doctor.findings import Look
from tagmill.settings import Settings

WHAT = "weights"

_MEND = "name the .h5 file, or unset it and let Keras download its own"

# From the HDF5 file format specification, III.A "Superblock": its version stands behind the
# signature, and the end of the file at a place of its own in each version.
_SIGNATURE = b"\x89HDF\r\n\x1a\n"
_END_AT = {0: 40, 1: 44, 2: 28, 3: 28}

_LAYERS = (b"block_16_project_BN", b"predictions")
"""Names in the file of MobileNetV2 with its ImageNet classes, in all of Keras' formats of it."""


def look_at_weights(settings: Settings) -> Look:
    """Look at the file that TAGMILL_WEIGHTS names, if it names one."""
    look = Look()
    if settings.weights is None:
        return look
    fault = fault_of(settings.weights)
    if fault:
        look.ill(WHAT, fault, _MEND)
    else:
        look.well(WHAT, str(settings.weights))
    return look


def fault_of(path: Path) -> str:
    """What is wrong with a weights file, as a sentence; nothing where it seems well."""
    if not path.is_file():
        kind = "a folder" if path.is_dir() else "no file"
        return f"TAGMILL_WEIGHTS names {kind}: {path}"
    size = path.stat().st_size
    try:
        with path.open("rb") as file:
            head = file.read(64)
            if not head.startswith(_SIGNATURE):
                return f"{path} is no HDF5 file"
            end_at = _END_AT.get(head[8])
            end = int.from_bytes(head[end_at : end_at + 8], "little") if end_at else size
            if size < end:
                return f"{path} has {size:,} of its {end:,} bytes: it was cut off"
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                if any(data.find(name) < 0 for name in _LAYERS):
                    return f"{path} has no weights of MobileNetV2 with its ImageNet classes"
    except OSError as error:
        return f"{path} cannot be read: {error.strerror}"
    return ""
