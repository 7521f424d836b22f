from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from dnms.domain.free_index import FreeIndex


@given(
    st.integers(1, 70_000),
    st.lists(st.tuples(st.booleans(), st.integers(0, 1 << 20)), max_size=60),
    st.lists(st.integers(0, 1 << 20), min_size=1, max_size=20),
    st.booleans(),
)
def test_it_finds_what_a_plain_search_finds(
    size: int, changes: list[tuple[bool, int]], starts: list[int], full: bool
) -> None:
    index, taken = FreeIndex(size), set[int]()
    if full:
        for offset in range(size):
            index.take(offset)
        taken = set(range(size))
    for take, number in changes:
        offset = number % size
        if take:
            index.take(offset)
            taken.add(offset)
        else:
            index.free(offset)
            taken.discard(offset)
    for number in starts:
        start = number % size
        order = (offset for offset in (*range(start, size), *range(start)) if offset not in taken)
        assert index.find(start) == next(order, None)
