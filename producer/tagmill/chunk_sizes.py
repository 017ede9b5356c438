"""How many items the chunks of a job have: lanes begin soon, and end together."""

from __future__ import annotations

FIRST_CHUNK_ITEMS = 32
"""Of each lane's first chunk: the first labels are there soon, on slow cores too."""

RETRY_CHUNK_ITEMS = 32
"""Of a chunk of failed items: few fail, and all lanes may have some of them."""

LEAST_CHUNK_ITEMS = 8
"""Below that many items a chunk's own cost shows beside its images'."""

GPU_CHUNK_ITEMS = 64
"""The same for lanes on GPUs, which compute whole batches whatever is in them."""


def chunk_sizes(
    items: int,
    *,
    lanes: int,
    most: int,
    is_first: bool,
    is_last: bool,
    least: int = LEAST_CHUNK_ITEMS,
) -> list[int]:
    """Cut a page into chunks so that lanes begin soon and end together.

    Chunks of a page in the middle of a listing are as large as allowed. The first page begins
    with a small chunk for every lane. The last one is cut by guided self-scheduling
    (Polychronopoulos and Kuck, 1987): every chunk takes a fixed share of what remains, so that
    they shrink towards the end and no lane waits long for another.

    Args:
        items: in the page.
        lanes: that are expected to work.
        most: items of a chunk at the most.
        is_first: whether the page begins the listing.
        is_last: whether the page ends the listing.
        least: items of a chunk at the least, where ``most`` allows.

    Returns:
        Sizes that add up to ``items``.
    """
    share = items // ((8 if is_last else 2) * lanes)
    most = min(most, max(least, share))
    sizes: list[int] = []
    left = items
    while left:
        size = most
        if is_last:
            size = min(size, max(least, left // (4 * lanes)))
        if is_first and len(sizes) < lanes:
            size = min(size, max(least, FIRST_CHUNK_ITEMS))
        sizes.append(min(size, left))
        left -= sizes[-1]
    return sizes
