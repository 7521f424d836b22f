from __future__ import annotations

import sys

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


@given(
    st.integers(1, 3_000),
    st.lists(st.integers(0, 1 << 20), max_size=40),
    st.lists(st.tuples(st.booleans(), st.integers(0, 1 << 20)), max_size=40),
    st.lists(st.integers(0, 1 << 20), min_size=1, max_size=10),
)
def test_a_draft_finds_what_a_copy_would_and_leaves_the_index_as_it_was(
    size: int, before: list[int], changes: list[tuple[bool, int]], starts: list[int]
) -> None:
    index, copied = FreeIndex(size), FreeIndex(size)
    for number in before:
        index.take(number % size)
        copied.take(number % size)
    found = [index.find(number % size) for number in starts]
    draft = index.draft()
    for take, number in changes:
        for each in (draft, copied):
            (each.take if take else each.free)(number % size)
    assert [draft.find(number % size) for number in starts] == [copied.find(number % size) for number in starts]
    assert [index.find(number % size) for number in starts] == found


def test_an_ipv4_slash_8_takes_two_mebibytes_empty_and_full() -> None:
    """What it takes is what all agents with such a pool pay for as long as they run: 2.2 MiB at most."""
    index = FreeIndex(1 << 24)
    empty = sys.getsizeof(index)
    for offset in range(0, 1 << 24, 1 << 10):  # into every other group of it
        index.take(offset)
    assert empty == sys.getsizeof(index) <= 2.2 * (1 << 20)
