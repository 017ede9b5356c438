from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tagmill.chunk_sizes import FIRST_CHUNK_ITEMS, LEAST_CHUNK_ITEMS, chunk_sizes


@given(
    items=st.integers(0, 5000),
    lanes=st.integers(1, 64),
    most=st.integers(1, 1000),
    first=st.booleans(),
    last=st.booleans(),
)
def test_chunks_hold_every_item_once_and_keep_the_limit(
    items: int, lanes: int, most: int, first: bool, last: bool
) -> None:
    sizes = chunk_sizes(items, lanes=lanes, most=most, is_first=first, is_last=last)
    assert sum(sizes) == items
    assert all(0 < size <= most for size in sizes)


@given(items=st.integers(200, 4096), lanes=st.integers(1, 8))
def test_last_chunks_shrink_so_that_lanes_end_together(items: int, lanes: int) -> None:
    sizes = chunk_sizes(items, lanes=lanes, most=256, is_first=False, is_last=True)
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[-1] <= LEAST_CHUNK_ITEMS
    assert len(sizes) >= 2 * lanes


def test_chunks_in_the_middle_of_a_listing_are_as_large_as_allowed() -> None:
    sizes = chunk_sizes(4096, lanes=2, most=256, is_first=False, is_last=False)
    assert sizes == [256] * 16


def test_few_items_in_the_middle_of_a_listing_are_for_all_lanes() -> None:
    assert chunk_sizes(200, lanes=4, most=256, is_first=False, is_last=False) == [25] * 8


def test_first_chunks_are_small_so_that_labels_are_there_soon() -> None:
    sizes = chunk_sizes(4096, lanes=3, most=256, is_first=True, is_last=False)
    assert sizes[:3] == [FIRST_CHUNK_ITEMS] * 3
    assert sizes[3] == 256


@given(pages=st.integers(1, 6), more=st.integers(0, 4095), lanes=st.integers(2, 24))
def test_no_lane_waits_long_for_another_at_the_end(pages: int, more: int, lanes: int) -> None:
    """Lanes that take one chunk after another: the last to end against a perfect split."""
    left = pages * 4096 + more
    items = left
    busy = [0] * lanes
    is_first = True
    while left:
        is_last = left < 2 * 4096
        page = left if is_last else 4096
        for size in chunk_sizes(page, lanes=lanes, most=256, is_first=is_first, is_last=is_last):
            soonest = busy.index(min(busy))
            busy[soonest] += size
        left -= page
        is_first = False
    assert max(busy) <= items / lanes + 32


def test_chunks_for_gpus_hold_whole_batches_up_to_the_end() -> None:
    sizes = chunk_sizes(3000, lanes=8, most=256, is_first=True, is_last=True, least=64)
    assert sum(sizes) == 3000
    assert all(size >= 64 for size in sizes[:-1])
