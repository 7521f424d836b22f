"""The index finds rows as a dict would, whatever collides in it."""

from __future__ import annotations

import random
from collections.abc import Iterator
from zlib import crc32

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from dnms.kit.index import SEGMENTS, Index

WIDTH, BEGIN, END = 24, 4, 20


def _colliding() -> tuple[bytes, bytes]:
    """Two keys of one CRC."""
    draw = random.Random(1)
    seen: dict[int, bytes] = {}
    while True:
        key = draw.randbytes(16)
        other = seen.setdefault(crc32(key), key)
        if other != key:
            return key, other


def _of_one_segment() -> Iterator[bytes]:
    """Keys whose entries stand in each other's way."""
    draw = random.Random(2)
    while True:
        key = draw.randbytes(16)
        if crc32(key) & 0x7FF == 0x7FF:  # one segment, and of its first eight places the last: they wrap round
            yield key


KEYS = [*_colliding(), *(key for _, key in zip(range(10), _of_one_segment(), strict=False)), bytes(16)]


class Rows:
    """A table as the index's owner keeps it."""

    def __init__(self) -> None:
        self.rows = bytearray()
        self.index = Index(self.rows, width=WIDTH, begin=BEGIN, end=END)

    def append(self, key: bytes) -> int:
        """A row more, whose number is returned; it is not in the index."""
        self.rows += bytes(BEGIN) + key + bytes(WIDTH - END)
        return len(self.rows) // WIDTH - 1


class IndexMachine(RuleBasedStateMachine):
    """Does the same to an index and to a dict."""

    @initialize()
    def begin(self) -> None:
        self.table, self.model = Rows(), dict[bytes, int]()

    @rule(key=st.sampled_from(KEYS))
    def add(self, key: bytes) -> None:
        number = self.table.append(key)
        assert self.table.index.add(key, number) == self.model.setdefault(key, number)

    @rule(key=st.sampled_from(KEYS))
    def remove(self, key: bytes) -> None:
        if key in self.model:
            self.table.index.remove(key)
            del self.model[key]
        else:
            with pytest.raises(KeyError):
                self.table.index.remove(key)

    @rule()
    def dumped_and_loaded(self) -> None:
        sizes, entries = self.table.index.dump()
        self.table.index = Index(self.table.rows, width=WIDTH, begin=BEGIN, end=END)
        self.table.index.load(sizes, memoryview(entries))

    @invariant()
    def same(self) -> None:
        assert {key: self.table.index.find(key) for key in KEYS} == {key: self.model.get(key, -1) for key in KEYS}
        assert len(self.table.index) == len(self.model)


TestIndex = IndexMachine.TestCase


def test_many_keys_are_found_and_missed() -> None:
    table, draw = Rows(), random.Random(3)
    keys = [draw.randbytes(16) for _ in range(20 * SEGMENTS)] + [n.to_bytes(16) for n in range(20 * SEGMENTS)]
    for key in keys:
        table.index.add(key, table.append(key))
    assert [table.index.find(key) for key in keys] == list(range(len(keys)))
    for key in keys[::2]:
        table.index.remove(key)
    assert [table.index.find(key) for key in keys[::2]] == [-1] * (len(keys) // 2)
    assert [table.index.find(key) for key in keys[1::2]] == list(range(1, len(keys), 2))


@pytest.mark.parametrize(
    ("sizes", "entries"),
    [([], b""), ([1] * SEGMENTS, bytes(8)), ([3] * SEGMENTS, bytes(24 * SEGMENTS)), ([0] * SEGMENTS, b"")],
)
def test_what_is_no_index_is_not_loaded(sizes: list[int], entries: bytes) -> None:
    with pytest.raises(ValueError, match=r"shape|power"):
        Rows().index.load(sizes, memoryview(entries))
