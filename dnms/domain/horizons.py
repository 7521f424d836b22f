"""When leases end whatever their holders do: their addresses, by the minute of the horizon.

A million leases that end in a month would make a heap of a hundred megabytes; only what is due next is in one.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping, Set
from itertools import groupby
from typing import Final, Protocol

import msgspec

from dnms.events.ip import family

SPAN: Final = 1 << 26
"""Microseconds that are kept together: 67 seconds."""

MAX_LOOKS: Final = 16
"""Times as many leases as are asked for, that are looked at to find some of one family that are due."""

SLACK: Final = 1_024
"""Entries beyond two a lease, so that a small ledger is not gone through all the time."""

_SIZE: Final = 16  # bytes of an address


class Ends(Protocol):
    """A lease, as far as it is looked at here."""

    @property
    def address(self) -> bytes:
        """Whose end it is."""
        ...

    @property
    def horizon(self) -> int:
        """In microseconds since 1970-01-01 UTC."""
        ...


class EndingLeases(Protocol):
    """All leases of a ledger."""

    def __len__(self) -> int:
        """How many there are."""
        ...

    def horizons(self) -> Iterable[tuple[int, bytes]]:
        """When each ends, and its address."""
        ...


class HorizonsDump(msgspec.Struct, frozen=True, array_like=True):
    """All but the buffer of `Horizons.dump`."""

    later: tuple[tuple[int, int], ...]  # spans, and how many bytes each has in the buffer
    soon: tuple[tuple[int, bytes], ...]


class Horizons:
    """Of the leases of one ledger. Entries that no longer hold are dropped when they are met."""

    def __init__(self) -> None:
        self._clear()

    def _clear(self) -> None:
        self._later: dict[int, bytearray] = {}  # addresses by the span of the horizon
        self._spans: list[int] = []  # a heap of those that have any
        self._soon: list[tuple[int, bytes]] = []  # a heap: of spans that have begun
        self._count = 0
        self._most = SLACK  # entries, when that was last looked at

    def __len__(self) -> int:
        return self._count

    def note(self, lease: Ends, leases: EndingLeases) -> None:
        """The lease, one of `leases`, has this horizon from now on."""
        self._add(lease.horizon, lease.address)
        self._keep_few(leases)

    def extend(self, ending: Iterable[Ends], leases: EndingLeases) -> None:
        """These leases, of `leases`, have these horizons from now on."""
        for span, together in groupby(ending, lambda each: each.horizon // SPAN):
            addresses = [each.address for each in together]
            self._in_span(span).extend(b"".join(addresses))
            self._count += len(addresses)
        self._keep_few(leases)

    def _keep_few(self, leases: EndingLeases) -> None:
        if self._count > self._most:
            self._most = 2 * len(leases) + SLACK
            if self._count > self._most:
                # Who renews or comes and goes all the time leaves entries until their horizons.
                self._clear()
                for horizon, address in leases.horizons():
                    self._add(horizon, address)

    def due(self, leases: Mapping[bytes, Ends], now: int, limit: int, kinds: Set[int]) -> tuple[bytes, ...]:
        """Up to `limit` addresses of these families whose horizon has passed at `now`."""
        self._begin(leases, now, MAX_LOOKS * limit)
        entries = self._soon
        found: list[bytes] = []
        passed: list[tuple[int, bytes]] = []
        while entries and entries[0][0] <= now and len(found) < limit and len(passed) < MAX_LOOKS * limit:
            entry = heapq.heappop(entries)
            lease = leases.get(entry[1])
            if lease is not None and lease.horizon == entry[0] and entry not in passed[-1:]:
                passed.append(entry)
                if family(entry[1]) in kinds:
                    found.append(entry[1])
            else:
                self._count -= 1
        for entry in passed:
            heapq.heappush(entries, entry)  # until the log has said that they expired
        return tuple(found)

    def dump(self) -> tuple[HorizonsDump, bytes]:
        """All there is."""
        later = tuple((span, len(addresses)) for span, addresses in self._later.items())
        return HorizonsDump(later, tuple(self._soon)), b"".join(self._later.values())

    def load(self, dump: HorizonsDump, buffer: memoryview) -> None:
        """Take what `dump` gave, into one that is empty. ValueError."""
        if sum(size for _, size in dump.later) != len(buffer):
            raise ValueError("the horizons have another size")
        begin = 0
        for span, size in dump.later:
            self._later[span] = bytearray(buffer[begin : begin + size])
            begin += size
        self._spans = sorted(self._later)
        self._soon = sorted(dump.soon)
        self._count = len(buffer) // _SIZE + len(self._soon)

    def _add(self, horizon: int, address: bytes) -> None:
        addresses = self._in_span(horizon // SPAN)
        addresses += address
        self._count += 1

    def _in_span(self, span: int) -> bytearray:
        addresses = self._later.get(span)
        if addresses is None:
            addresses = self._later[span] = bytearray()
            heapq.heappush(self._spans, span)
        return addresses

    def _begin(self, leases: Mapping[bytes, Ends], now: int, limit: int) -> None:
        """Sort what stands in spans that have begun, up to `limit` that hold."""
        while self._spans and self._spans[0] <= now // SPAN:
            span = self._spans[0]
            addresses = self._later[span]
            while addresses:
                if not limit:
                    return
                address = bytes(addresses[-_SIZE:])
                del addresses[-_SIZE:]
                lease = leases.get(address)
                if lease is not None and lease.horizon // SPAN == span:
                    heapq.heappush(self._soon, (lease.horizon, address))
                    limit -= 1
                else:
                    self._count -= 1
            heapq.heappop(self._spans)
            del self._later[span]
