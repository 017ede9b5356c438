"""Images that cannot be read for now: they end a training, for a smaller dataset is another one."""

from __future__ import annotations

import time
from collections.abc import Callable

from tagmill.contract import Item
from tagmill.errors import MissingError, TransientItemError
from tagmill.sources import readable
from tagmill_worker.fetch import Fetched
from tagmill_worker.patience import Patience


def patient(fetch: Callable[[Item], Fetched]) -> Patience:
    """Tries again as a lane does, for as long as that waits for what is away."""
    return Patience(fetch, moved=lambda: None, clock=time.monotonic, sleep=time.sleep)


def away(uri: str, error: TransientItemError) -> MissingError:
    """What an image that could not be read for now means for a training.

    Args:
        uri: of the image.
        error: of the last try.
    """
    return MissingError(
        f"{readable(uri)} cannot be read for now ({error.message}): the training ends, the "
        "champion is as it was, and the next one goes on from what was computed"
    )
