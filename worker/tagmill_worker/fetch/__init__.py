"""Getting an item's bytes, wherever it lies."""

from __future__ import annotations

from tagmill.contract import Item
from tagmill.s3 import S3
from tagmill_worker.fetch.local import Fetched, LocalFetch

__all__ = ["Fetch", "Fetched", "LocalFetch", "is_remote"]


def is_remote(item: Item) -> bool:
    """True where reading is waiting for a network: worth doing ahead."""
    return item.uri.startswith("s3:")


class Fetch:
    """Reads an item from where its URI says.

    Args:
        local: for files.
        s3: for objects.
        max_bytes: of an object.
    """

    def __init__(self, local: LocalFetch, s3: S3, *, max_bytes: int) -> None:
        self._local = local
        self._s3 = s3
        self._max_bytes = max_bytes

    def __call__(self, item: Item) -> Fetched:
        """Read one item.

        Raises:
            PermanentItemError: what is wrong with it.
            TransientItemError: if reading failed in a way that may pass.
        """
        if not is_remote(item):
            return self._local(item)
        data, version = self._s3.read(item.uri, max_bytes=self._max_bytes)
        return Fetched(data=data, version=version)
