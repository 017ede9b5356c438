"""Reading an object's body, held to its length, a limit, and a time."""

from __future__ import annotations

import time
from typing import Any

from tagmill.contract import ErrorCode
from tagmill.errors import PermanentItemError, TransientItemError

MOST_READ_S = 120.0
"""For how long an object may take: a server that sends a byte now and then is no better than one
that sends none."""

_PIECE_BYTES = 1 << 18


def read_body(body: Any, size: int | None, max_bytes: int) -> bytes:
    """The bytes of a body.

    Args:
        body: as botocore gives it.
        size: that the server told, if it did.
        max_bytes: that it may have.

    Raises:
        PermanentItemError: if it has more.
        TransientItemError: if it ends before its size, or takes too long.
    """
    if size is not None and size > max_bytes:
        raise PermanentItemError(
            ErrorCode.TOO_LARGE, f"{size:,} bytes, the limit is {max_bytes:,} (TAGMILL_MAX_BYTES)"
        )
    began = time.monotonic()
    data = bytearray()
    while piece := body.read(_PIECE_BYTES):
        data += piece
        if len(data) > max_bytes:
            raise PermanentItemError(
                ErrorCode.TOO_LARGE, f"more than the limit of {max_bytes:,} bytes"
            )
        if time.monotonic() - began > MOST_READ_S:
            raise TransientItemError(
                ErrorCode.UNAVAILABLE, f"{len(data):,} bytes in {MOST_READ_S:.0f} s: given up"
            )
    if size is not None and len(data) < size:
        raise TransientItemError(
            ErrorCode.UNAVAILABLE, f"reading ended after {len(data):,} of {size:,} bytes"
        )
    return bytes(data)
