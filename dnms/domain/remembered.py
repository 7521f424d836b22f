"""What a ledger remembers of addresses that nobody holds. Bounded; all agents forget the same at the same commit."""

from __future__ import annotations

import heapq
from collections import OrderedDict
from collections.abc import Iterator, MutableMapping
from typing import Final

import msgspec

from dnms.events.ip import Prefix, family
from dnms.kit.overlay import overlaid

MAX_FORMER: Final = 65_536
"""Addresses of a family that somebody had, the newest ones: for IPv6 so that another client does not get them soon, for
IPv4 so that the longest free one is reused first."""

MAX_MOVED: Final = 65_536
"""Clients whose candidates begin at a higher counter, the newest ones. One that is forgotten begins at 0 again, and
moves again if it has to; without a bound, whoever invents clients in a small pool would fill every agent's memory."""

MAX_WITHHELD: Final = 65_536
"""Addresses that are kept from others for a time. Beyond, those are free early whose time would be over first: a host
that really has one is found by DAD."""

Moved = tuple[bytes, int, Prefix]
"""Client, IAID and prefix: what a counter of the hash belongs to."""


class Forgotten(msgspec.Struct, frozen=True):
    """Addresses about which a ledger has forgotten something."""

    as_new: list[bytes]  # as if nobody ever had them
    free: list[bytes]  # not kept from anybody any more


NOTHING: Final = Forgotten([], [])


class RememberedDump(msgspec.Struct, frozen=True, array_like=True):
    """All of it, in the order in which it is kept."""

    former: tuple[tuple[int, tuple[tuple[bytes, bytes], ...]], ...]
    quarantine: tuple[tuple[bytes, int], ...]
    promised: tuple[tuple[bytes, int], ...]
    counters: tuple[tuple[Moved, int], ...]
    declines: tuple[tuple[bytes, tuple[int, ...]], ...]
    ends: tuple[tuple[int, bytes, bytes], ...]


class Remembered:
    """Former addresses and their last clients, quarantined ones, and the counters of clients that moved."""

    def __init__(self) -> None:
        # Ordered dicts, since taking the first of a plain one that shrinks at its front costs its length.
        self.former: dict[int, MutableMapping[bytes, bytes]] = {4: OrderedDict(), 6: OrderedDict()}  # oldest first
        self.quarantine: MutableMapping[bytes, int] = {}  # declined addresses, until when nobody gets them
        self._promised: MutableMapping[bytes, int] = {}  # withdrawn ones, until when only their last client does
        self._promised_to: MutableMapping[bytes, tuple[bytes, ...]] = {}  # the same, by that client
        self._counters: MutableMapping[Moved, int] = OrderedDict()
        self._declines: MutableMapping[bytes, tuple[int, ...]] = {}  # of a client: until when each
        self._ends: list[tuple[int, bytes, bytes]] = []  # a heap of what ends by itself: when, address, client

    def draft(self) -> Remembered:
        """A copy that may be thrown away. It forgets nothing: nobody decides by what is over."""
        draft = Remembered()
        draft.former = {kind: overlaid(former) for kind, former in self.former.items()}
        draft.quarantine, draft._promised = overlaid(self.quarantine), overlaid(self._promised)
        draft._promised_to = overlaid(self._promised_to)
        draft._counters, draft._declines = overlaid(self._counters), overlaid(self._declines)
        draft._ends = self._ends  # which a draft only reads
        return draft

    def dump(self) -> RememberedDump:
        """All of it."""
        return RememberedDump(
            former=tuple((kind, tuple(former.items())) for kind, former in self.former.items()),
            quarantine=tuple(self.quarantine.items()),
            promised=tuple(self._promised.items()),
            counters=tuple(self._counters.items()),
            declines=tuple(self._declines.items()),
            ends=tuple(self._ends),
        )

    def load(self, dump: RememberedDump) -> None:
        """Take what `dump` gave."""
        self.former = {kind: OrderedDict(former) for kind, former in dump.former}
        self.quarantine, self._promised = dict(dump.quarantine), dict(dump.promised)
        self._counters, self._declines = OrderedDict(dump.counters), dict(dump.declines)
        self._ends = list(dump.ends)
        for address in self._promised:
            client = self.former[family(address)].get(address)
            if client is not None:
                self._promised_to[client] = (*self._promised_to.get(client, ()), address)

    def counter(self, moved: Moved) -> int:
        """With which candidate the client begins."""
        return self._counters.get(moved, 0)

    def declines(self, client: bytes, *, at: int) -> int:
        """How many addresses that the client has declined are in quarantine."""
        return sum(until > at for until in self._declines.get(client, ()))

    def withholds(self, address: bytes, client: bytes, *, at: int) -> bool:
        """Whether the client may not have the address now: it is in quarantine, or promised to its last client yet."""
        if self.quarantine.get(address, 0) > at:
            return True
        return self._promised.get(address, 0) > at and self.former[family(address)].get(address) != client

    def promised(self, address: bytes, client: bytes) -> int:
        """Until when the client was promised an address that it lost; 0 if it was not."""
        until = self._promised.get(address, 0) if self._promised else 0
        return until if until and self.former[family(address)].get(address) == client else 0

    def promised_to(self, client: bytes) -> tuple[bytes, ...]:
        """What the client lost before what it was promised: until then it is free for this client alone."""
        return self._promised_to.get(client, ())

    def free(self, kind: int) -> Iterator[bytes]:
        """The former addresses of a family that are kept from nobody, the longest free first."""
        withheld = (self.quarantine, self._promised)
        return (each for each in self.former[kind] if not any(each in addresses for addresses in withheld))

    def has_had(self, address: bytes) -> bool:
        """Whether it is known that somebody had the address."""
        return address in self.former[family(address)]

    def free_now(self, address: bytes) -> bool:
        """A former address was kept for somebody until now; whether it is free therefore."""
        if address in self.quarantine or address in self._promised:
            return False
        former = self.former[family(address)]
        former[address] = former.pop(address)
        return True

    def over(self, at: int) -> Iterator[bytes]:
        """Those of which `forget` will say that they are free, if it is not called so often."""
        if self._ends and self._ends[0][0] <= at:
            for addresses in (self.quarantine, self._promised):
                yield from (address for address, until in addresses.items() if until <= at)

    def hold(self, address: bytes) -> None:
        """Somebody has it again."""
        if self._promised and address in self._promised:
            self._unpromise(address)
        for addresses in (self.former[family(address)], self.quarantine):
            if addresses:
                addresses.pop(address, None)

    def end(self, address: bytes, client: bytes) -> None:
        """The client has it no longer."""
        self.former[family(address)][address] = client

    def decline(self, address: bytes, client: bytes, until: int, *, durable: bool) -> None:
        """The client found it in use by another."""
        self.quarantine[address] = until
        self._declines[client] = (*self._declines.get(client, ()), until)
        if durable:
            heapq.heappush(self._ends, (until, address, client))

    def withdraw(self, address: bytes, client: bytes, until: int, *, durable: bool) -> None:
        """The client, who had it last, lost it before what it was promised, and may not have heard of that yet."""
        if address not in self._promised:
            self._promised_to[client] = (*self._promised_to.get(client, ()), address)
        self._promised[address] = until
        if durable:
            heapq.heappush(self._ends, (until, address, client))

    def move(self, moved: Moved, counter: int) -> None:
        """From now on the client begins with this candidate."""
        self._counters.pop(moved, None)  # so that it stands among the newest
        self._counters[moved] = counter

    @property
    def has_promised(self) -> bool:
        """Whether anything is promised to somebody who lost it."""
        return bool(self._promised)

    @property
    def has_any(self) -> bool:
        """Whether `hold` has anything to do for any address."""
        return bool(self._promised or self.quarantine or self.former[4] or self.former[6])

    def is_due(self, at: int) -> bool:
        """Whether `forget` has anything to do at `at`."""
        return (
            bool(self._ends and (self._ends[0][0] <= at or len(self._ends) > MAX_WITHHELD))
            or len(self._counters) > MAX_MOVED
            or len(self.former[4]) > MAX_FORMER
            or len(self.former[6]) > MAX_FORMER
        )

    def forget(self, at: int) -> Forgotten:
        """Forget what is over at `at`, and what is too much."""
        if not self.is_due(at):
            return NOTHING
        free: list[bytes] = []
        while self._ends and (self._ends[0][0] <= at or len(self._ends) > MAX_WITHHELD):
            until, address, client = heapq.heappop(self._ends)
            if self._over(until, address, client):
                free.append(address)
        while len(self._counters) > MAX_MOVED:
            del self._counters[next(iter(self._counters))]
        as_new: list[bytes] = []
        for former in self.former.values():
            while len(former) > MAX_FORMER:
                oldest = next(iter(former))
                self._promised_to_nobody(oldest)
                del former[oldest]
                as_new.append(oldest)
        return Forgotten(as_new, free)

    def _over(self, until: int, address: bytes, client: bytes) -> bool:
        """The time of one is over; whether it is free therefore."""
        declines = list(self._declines.get(client, ()))
        if until in declines:
            declines.remove(until)
            self._declines[client] = tuple(declines)
            if not declines:
                del self._declines[client]
        is_over = False
        if self.quarantine.get(address) == until:
            del self.quarantine[address]
            is_over = True
        if self._promised.get(address) == until:
            self._unpromise(address)
            is_over = True
        former = self.former[family(address)]
        if not is_over or address not in former:
            return False  # somebody has it, or had it and lost it anew
        if address in self.quarantine or address in self._promised:
            return False  # for another reason still
        former[address] = former.pop(address)  # free from now on
        return True

    def _unpromise(self, address: bytes) -> None:
        self._promised_to_nobody(address)
        del self._promised[address]

    def _promised_to_nobody(self, address: bytes) -> None:
        """Its last client is forgotten, or the promise is over."""
        client = self.former[family(address)].get(address)
        if client is None or address not in (promised := self._promised_to.get(client, ())):
            return
        if left := tuple(each for each in promised if each != address):
            self._promised_to[client] = left
        else:
            del self._promised_to[client]
