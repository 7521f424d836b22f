"""Which addresses of a pool a client may have: those of its group, where the group has some of its own."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from typing import Final

from dnms.events.ip import MAPPED
from dnms.events.plan import AdoptedPlan, Pool

HOST_BITS: Final = 48
"""In a whole /64 the identifier is a group's number, 16 bits, and a host: one match finds a group in every subnet."""

_MAPPED = int.from_bytes(MAPPED)


class Ranges:
    """Ranges of addresses in their order, as one row of numbers from 0 to `size`. Equal ranges are equal keys."""

    def __init__(self, ranges: Sequence[tuple[int, int]]) -> None:
        """`ranges`: first and last address of each, as numbers of 128 bits, in order and without overlap."""
        self._ranges = tuple(ranges)
        *self._begins, self.size = 0, *accumulate(last - first + 1 for first, last in self._ranges)

    @property
    def is_mapped(self) -> bool:
        """Whether they are of IPv4."""
        return bool(self._ranges) and self._ranges[0][0] >> 32 == _MAPPED

    def dump(self) -> tuple[tuple[bytes, bytes], ...]:
        """First and last address of each."""
        return tuple((first.to_bytes(16), last.to_bytes(16)) for first, last in self._ranges)

    def address(self, number: int) -> int:
        """The address with this number, which is below `size`."""
        place = bisect_right(self._begins, number) - 1
        return self._ranges[place][0] + number - self._begins[place]

    def number(self, address: int) -> int:
        """The number of one of the addresses; for another, how many come before it."""
        before = 0
        for first, last in self._ranges:
            if address < first:
                break
            before += min(address, last + 1) - first
        return before

    def __contains__(self, address: int) -> bool:
        return any(first <= address <= last for first, last in self._ranges)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Ranges) and self._ranges == other._ranges

    def __hash__(self) -> int:
        return hash(self._ranges)


def is_whole_64(pool: Pool) -> bool:
    """Whether the pool is a /64 from end to end, so that its identifiers carry the group's number."""
    return pool.first[8:] == bytes(8) and pool.last == pool.first[:8] + b"\xff" * 8


def of_group(network: int, group: int) -> Ranges:
    """The addresses of a group (0: of who is in none) in the /64 that begins with `network`."""
    first = network | group << HOST_BITS
    return Ranges([(first, first | (1 << HOST_BITS) - 1)])


def ranges_of(pool: Pool, plan: AdoptedPlan, group: int) -> Ranges:
    """What the members of a group (0: of none) may have of a pool of this plan.

    In a whole /64 the group is a field of the address. Elsewhere it has the ranges that the plan gives it; who is in a
    group without a range in this pool has what no group has.
    """
    first, last = int.from_bytes(pool.first), int.from_bytes(pool.last)
    if is_whole_64(pool):
        return of_group(first, group)
    of_groups = sorted(
        (prefix.first, prefix.last, plan.groups[name])
        for name, prefixes in plan.ranges.items()
        for prefix in prefixes
        if first <= prefix.first and prefix.last <= last
    )
    own = [(begin, end) for begin, end, number in of_groups if number == group]
    return Ranges(own or _between(first, last, of_groups))


def _between(first: int, last: int, taken: Sequence[tuple[int, int, int]]) -> list[tuple[int, int]]:
    free = []
    for begin, end, _ in taken:
        if first < begin:
            free.append((first, begin - 1))
        first = end + 1
    if first <= last:
        free.append((first, last))
    return free
