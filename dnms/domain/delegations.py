"""Which prefixes of a ledger are delegated, and which are free: what follows from `prefix.*`."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, MutableMapping
from typing import Final

import msgspec

from dnms.events.ip import Address, Prefix, prefix_of
from dnms.events.prefix import PrefixDelegated
from dnms.kit.overlay import overlaid

SHORTEST: Final = 16
"""Bits of the largest block of which is known how much of it is delegated."""

MAX_FORMER: Final = 4_096
"""Blocks of which is remembered who had them last; of more, the oldest are given as if they were new."""

_SMALLEST: Final = 64

_NOT_KEPT: Final = frozenset({"counter", "origin"})

Association = tuple[bytes, int]
"""Client id and IAID: what a prefix is delegated for."""


class Delegated(msgspec.Struct, frozen=True):
    """One prefix held by one client. Instants are microseconds since 1970-01-01 UTC."""

    prefix: Prefix
    client: bytes
    iaid: int
    delegation: str  # the pool
    next_hop: Address
    interface: str
    group: int
    valid_until: int
    horizon: int
    position: int  # sequence of the commit that delegated it; 0: it is no more than drafted
    routed: int = 0  # sequence of the commit that said last by which next hop it is reached
    drained_at: int = 0  # another takes its place: until then the client may use it; 0: it is no such one
    exclude: Prefix | None = None

    @property
    def ends(self) -> int:
        """When it is over, if nobody renews it."""
        return min(self.drained_at or self.horizon, self.horizon)


class DelegationsDump(msgspec.Struct, frozen=True, array_like=True):
    """Those of one ledger."""

    all: tuple[Delegated, ...] = ()
    former: tuple[tuple[Prefix, bytes], ...] = ()
    resting: tuple[tuple[Prefix, bytes, int], ...] = ()  # with until when


def delegated(event: PrefixDelegated, position: int) -> Delegated:
    """What is given by it."""
    fields = {name: getattr(event, name) for name in event.__struct_fields__ if name not in _NOT_KEPT}
    return Delegated(**fields, position=position, routed=position)


class Delegations:
    """Those of one ledger."""

    def __init__(self) -> None:
        self.all: MutableMapping[Prefix, Delegated] = {}
        self._of: MutableMapping[Association, tuple[Prefix, ...]] = {}
        self._several: MutableMapping[bytes, int] = {}  # by client: for how many associations it holds something
        self._lengths: dict[int, int] = {}  # how many blocks of each length are delegated
        self._taken: MutableMapping[Prefix, int] = {}  # of each prefix above a block: how many /64s of it are delegated
        self.former: MutableMapping[Prefix, bytes] = {}  # whose a block was, of those that are free
        self.resting: MutableMapping[Prefix, tuple[bytes, int]] = {}  # promised to a client until then, and withdrawn
        self._rests: MutableMapping[Prefix, int] = {}  # of each prefix above a block: how many in it rest
        self._rises: list[tuple[int, Prefix]] = []  # a heap of these, as `_ends` is one
        self._ends: list[tuple[int, Prefix]] = []  # a heap; what does not hold any more is dropped when it is met

    def draft(self) -> Delegations:
        """A copy that may be thrown away."""
        draft = Delegations()
        draft.all, draft._of, draft._taken = overlaid(self.all), overlaid(self._of), overlaid(self._taken)
        draft._lengths = self._lengths.copy()
        draft.former, draft.resting = overlaid(self.former), overlaid(self.resting)
        draft._rests, draft._several = overlaid(self._rests), overlaid(self._several)
        return draft

    def dump(self) -> DelegationsDump:
        """All there is."""
        resting = tuple((prefix, *who) for prefix, who in self.resting.items())
        return DelegationsDump(tuple(self.all.values()), tuple(self.former.items()), resting)

    def load(self, dump: DelegationsDump) -> None:
        """Take what `dump` gave, into one that is empty."""
        for each in dump.all:
            self.put(each)
        self.former.update(dump.former)
        for prefix, client, until in dump.resting:
            self._rest(prefix, client, until)

    def of(self, client: bytes, iaid: int) -> tuple[Delegated, ...]:
        """What a client holds for an association: first what is not drained, then what is over first."""
        held = (self.all[prefix] for prefix in self._of.get((client, iaid), ()))
        return tuple(sorted(held, key=lambda each: (each.drained_at, each.prefix)))

    def associations(self, client: bytes) -> int:
        """For how many associations a client holds something."""
        return self._several.get(client, 0)

    def due(self, now: int, limit: int) -> tuple[Prefix, ...]:
        """Up to `limit` that were to be used until `now` or before."""
        found: dict[Prefix, tuple[int, Prefix]] = {}
        while self._ends and self._ends[0][0] <= now and len(found) < limit:
            entry = heapq.heappop(self._ends)
            there = self.all.get(entry[1])
            if there is not None and there.ends == entry[0] and entry[1] not in found:
                found[entry[1]] = entry
        for entry in found.values():  # until the log has said that they are over
            heapq.heappush(self._ends, entry)
        return tuple(found)

    def put(self, each: Delegated) -> None:
        """It is so from now on, whatever was there."""
        before = self.all.get(each.prefix)
        if before is not None:
            self._leave(before)
        else:
            self._count(each.prefix, 1)
        self.all[each.prefix] = each
        key = (each.client, each.iaid)
        if key not in self._of:
            self._several[each.client] = self._several.get(each.client, 0) + 1
        self._of[key] = (*self._of.get(key, ()), each.prefix)
        self.former.pop(each.prefix, None)
        self._rise(each.prefix)
        if each.position:
            heapq.heappush(self._ends, (each.ends, each.prefix))

    def end(self, prefix: Prefix, *, rests: bool = False) -> None:
        """Nobody has it any more. `rests`: its client may not have heard of that, and was promised more."""
        there = self.all.pop(prefix, None)
        if there is None:
            return
        self._leave(there)
        self._count(prefix, -1)
        self.former[prefix] = there.client
        if rests:
            self._rest(prefix, there.client, there.horizon)

    def forget(self, at: int) -> None:
        """What was promised until `at` or before rests no longer; of too many blocks the first are as if new."""
        while len(self.former) > MAX_FORMER:
            del self.former[next(iter(self.former))]
        while self._rises and self._rises[0][0] <= at:
            until, prefix = heapq.heappop(self._rises)
            if self.resting.get(prefix, (b"", 0))[1] == until:
                self._rise(prefix)

    def is_free(self, block: Prefix, client: bytes, at: int) -> bool:
        """Whether nothing of it is delegated, and nothing of it is promised to another one."""
        if block in self.all or self._taken.get(block):
            return False
        shorter = [length for length, number in self._lengths.items() if number and length < block.length]
        if any(prefix_of(block.network, length) in self.all for length in shorter):
            return False
        return not any(self.resting[each][0] != client and self.resting[each][1] > at for each in self._resting(block))

    def free(self, within: Prefix, length: int) -> Iterator[Prefix]:
        """The blocks of a length in `within` of which nothing is delegated, the lowest first."""
        if within in self.all or self._taken.get(within, 0) >> (_SMALLEST - within.length):
            return
        if within.length == length:
            if not self._taken.get(within):
                yield within
            return
        for half in _halves(within):
            yield from self.free(half, length)

    def _resting(self, block: Prefix) -> Iterator[Prefix]:
        """What rests of a block, or has it in it. After a renumbering as many rest as were delegated."""
        if self.resting:
            above = (prefix_of(block.network, length) for length in range(SHORTEST, block.length))
            yield from (each for each in above if each in self.resting)
            yield from self._resting_in(block)

    def _resting_in(self, block: Prefix) -> Iterator[Prefix]:
        if block in self.resting:
            yield block
        if self._rests.get(block):
            for half in _halves(block):
                yield from self._resting_in(half)

    def _rest(self, prefix: Prefix, client: bytes, until: int) -> None:
        self._rise(prefix)
        self.resting[prefix] = client, until
        heapq.heappush(self._rises, (until, prefix))
        _add(self._rests, prefix, 1)

    def _rise(self, prefix: Prefix) -> None:
        if self.resting.pop(prefix, None) is not None:
            _add(self._rests, prefix, -1)

    def _leave(self, each: Delegated) -> None:
        key = (each.client, each.iaid)
        left = tuple(prefix for prefix in self._of.get(key, ()) if prefix != each.prefix)
        if left:
            self._of[key] = left
        elif self._of.pop(key, None) is not None:
            if self._several[each.client] > 1:
                self._several[each.client] -= 1
            else:
                del self._several[each.client]

    def _count(self, prefix: Prefix, sign: int) -> None:
        self._lengths[prefix.length] = self._lengths.get(prefix.length, 0) + sign
        _add(self._taken, prefix, sign * (1 << (_SMALLEST - prefix.length)))


def _halves(prefix: Prefix) -> tuple[Prefix, Prefix]:
    length = prefix.length + 1
    return Prefix(prefix.network, length), Prefix((prefix.first | 1 << (128 - length)).to_bytes(16), length)


def _add(counts: MutableMapping[Prefix, int], prefix: Prefix, number: int) -> None:
    """To each prefix above this one; a count of 0 is left out."""
    first = prefix.first
    for length in range(SHORTEST, prefix.length):
        higher = Prefix((first >> 128 - length << 128 - length).to_bytes(16), length)
        if count := counts.get(higher, 0) + number:
            counts[higher] = count
        else:
            counts.pop(higher, None)
