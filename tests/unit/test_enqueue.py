from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tagmill.enqueue import LEAST_CHUNK_ITEMS, chunk_sizes


@given(
    items=st.integers(0, 5000),
    lanes=st.integers(1, 64),
    most=st.integers(1, 1000),
    last=st.booleans(),
)
def test_chunks_hold_every_item_once_and_keep_the_limit(
    items: int, lanes: int, most: int, last: bool
) -> None:
    sizes = chunk_sizes(items, lanes=lanes, most=most, is_last=last)
    assert sum(sizes) == items
    assert all(0 < size <= most for size in sizes)


@given(items=st.integers(200, 4096), lanes=st.integers(1, 8))
def test_last_chunks_shrink_so_that_lanes_end_together(items: int, lanes: int) -> None:
    sizes = chunk_sizes(items, lanes=lanes, most=256, is_last=True)
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[-1] <= LEAST_CHUNK_ITEMS
    assert len(sizes) >= 2 * lanes


def test_chunks_in_the_middle_of_a_listing_are_as_large_as_allowed() -> None:
    assert chunk_sizes(600, lanes=2, most=256, is_last=False) == [256, 256, 88]
