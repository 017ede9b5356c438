"""Messages that say they are compressed: none of ours are, and two kilobytes may hold gigabytes."""

from __future__ import annotations

from kombu import compression


def refuse_compressed() -> None:
    """Have Kombu take no compressed message in this process: it would unpack it to its end."""
    for kind in compression.encoders():  # type: ignore[no-untyped-call]  # Kombu ships few types
        compression.register(_refused, _refused, kind)  # type: ignore[no-untyped-call]  # as above


def _refused(_: bytes) -> bytes:
    raise ValueError("a compressed message, which is none of ours")
