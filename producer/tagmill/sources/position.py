"""A place in a listing, from which it can go on."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Position:
    """Where a listing stopped.

    Attributes:
        n: items that it had yielded.
        uri: the last of them. It need not be there any more, nor do its neighbours.
    """

    n: int
    uri: str
