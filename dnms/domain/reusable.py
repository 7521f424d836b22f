"""The addresses of some ranges that nobody holds, in the order in which they are given when no candidate is free."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator, MutableMapping
from copy import copy

from dnms.domain.free_index import FreeIndex
from dnms.domain.ranges import Ranges
from dnms.kit.overlay import Overlay


class Reusable:
    """The never given addresses of the ranges, and the ones that somebody had, the longest free first."""

    def __init__(self, ranges: Ranges, shift: int = 0, *, held: Iterable[bytes], former: Iterable[bytes]) -> None:
        """`shift`: the ranges are of blocks of so many bits, each of which its first address stands for.

        `held` and `former` may have addresses of other ranges.
        """
        self._ranges, self._shift = ranges, shift
        self._inside = (1 << shift) - 1
        self._never_given = FreeIndex(ranges.size)
        self._former: MutableMapping[bytes, None] = OrderedDict()
        for address in held:
            self.hold(address)
        for address in former:
            self.hold(address)
            self.end(address)

    def draft(self) -> Reusable:
        """A copy that may be thrown away, while this one stays as it is."""
        draft = copy(self)
        draft._never_given, draft._former = self._never_given.draft(), Overlay(self._former)
        return draft

    def __contains__(self, address: bytes) -> bool:
        """Whether it is one of the ranges'."""
        return self._number(address) is not None

    def hold(self, address: bytes) -> None:
        """Somebody has it."""
        number = self._number(address)
        if number is not None:
            self._former.pop(address, None)
            self._never_given.take(number)

    def end(self, address: bytes) -> None:
        """Nobody has it any more."""
        if address in self:
            self._former[address] = None

    def forget(self, address: bytes) -> None:
        """It is as if nobody ever had it."""
        number = self._number(address)
        if number is not None:
            self._former.pop(address, None)
            self._never_given.free(number)

    def never_given(self, start: int) -> Iterator[bytes]:
        """Those that nobody ever had, from the number `start` of the ranges on and round."""
        number = first = self._never_given.find(start % self._ranges.size)
        while number is not None:
            yield (self._ranges.address(number) << self._shift).to_bytes(16)
            number = self._never_given.find((number + 1) % self._ranges.size)
            if number == first:
                return

    def longest_free(self) -> Iterator[bytes]:
        """Those that somebody had, the longest free first."""
        return iter(self._former)

    def _number(self, address: bytes) -> int | None:
        value = int.from_bytes(address)
        value, inside = value >> self._shift, value & self._inside
        return self._ranges.number(value) if not inside and value in self._ranges else None
