"""The addresses of one range that nobody holds, in the order in which they are given when no candidate is free."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator
from typing import Final

from dnms.domain.free_index import FreeIndex

MAX_INDEXED: Final = 1 << 24
"""Addresses of a range that is indexed: an IPv4 /8, whose bitmap takes 2 MiB. Where all candidates of a larger one are
taken, so are millions of its addresses."""


class Reusable:
    """The never given addresses of a range, and the ones that somebody had, the longest free first."""

    def __init__(self, first: bytes, last: bytes, *, held: Iterable[bytes], former: Iterable[bytes]) -> None:
        """Of the range from `first` to `last`; `held` and `former` may have addresses of other ranges."""
        self._first, self._last = first, last
        self._begin = int.from_bytes(first)
        self._size = int.from_bytes(last) - self._begin + 1
        self._never_given = FreeIndex(self._size)
        self._former: OrderedDict[bytes, None] = OrderedDict()
        for address in held:
            self.hold(address)
        for address in former:
            self.hold(address)
            self.end(address)

    def hold(self, address: bytes) -> None:
        """Somebody has it."""
        if self._first <= address <= self._last:
            self._former.pop(address, None)
            self._never_given.take(int.from_bytes(address) - self._begin)

    def end(self, address: bytes) -> None:
        """Nobody has it any more."""
        if self._first <= address <= self._last:
            self._former[address] = None

    def forget(self, address: bytes) -> None:
        """It is as if nobody ever had it."""
        if self._first <= address <= self._last:
            self._former.pop(address, None)
            self._never_given.free(int.from_bytes(address) - self._begin)

    def never_given(self, start: int) -> Iterator[bytes]:
        """Those that nobody ever had, from the number `start` on and round."""
        offset = first = self._never_given.find((start - self._begin) % self._size)
        while offset is not None:
            yield (self._begin + offset).to_bytes(16)
            offset = self._never_given.find((offset + 1) % self._size)
            if offset == first:
                return

    def longest_free(self) -> Iterator[bytes]:
        """Those that somebody had, the longest free first."""
        return iter(self._former)
