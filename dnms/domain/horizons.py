"""When leases end whatever their holders do: a heap of horizons."""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Set
from typing import Final, Protocol

from dnms.events.ip import family

MAX_LOOKS: Final = 16
"""Times as many due leases as are asked for, that are looked at to find some of one family."""

SLACK: Final = 1_024
"""Entries of the heap beyond two a lease, so that a small ledger does not sort all the time."""


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


class Horizons:
    """Of the leases of one ledger. Entries that no longer hold are dropped when they are met."""

    def __init__(self) -> None:
        self._entries: list[tuple[int, bytes]] = []

    def __len__(self) -> int:
        return len(self._entries)

    def note(self, lease: Ends, leases: Mapping[bytes, Ends]) -> None:
        """The lease has this horizon from now on; `leases` has all of them."""
        heapq.heappush(self._entries, (lease.horizon, lease.address))
        if len(self._entries) > 2 * len(leases) + SLACK:
            # Who renews or comes and goes all the time leaves entries until their horizons.
            self._entries = [(each.horizon, each.address) for each in leases.values()]
            heapq.heapify(self._entries)

    def due(self, leases: Mapping[bytes, Ends], now: int, limit: int, kinds: Set[int]) -> tuple[bytes, ...]:
        """Up to `limit` addresses of these families whose horizon has passed at `now`."""
        entries = self._entries
        found: list[bytes] = []
        passed: list[tuple[int, bytes]] = []
        while entries and entries[0][0] <= now and len(found) < limit and len(passed) < MAX_LOOKS * limit:
            entry = heapq.heappop(entries)
            lease = leases.get(entry[1])
            if lease is not None and lease.horizon == entry[0] and entry not in passed[-1:]:
                passed.append(entry)
                if family(entry[1]) in kinds:
                    found.append(entry[1])
        for entry in passed:
            heapq.heappush(entries, entry)  # until the log has said that they expired
        return tuple(found)
