"""When the addresses end that others have taken the place of, long before what was promised of them does."""

from __future__ import annotations

import heapq
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from dnms.kit.clock import MICROSECONDS

if TYPE_CHECKING:
    from dnms.domain.leases import Lease

APART: Final = 60 * MICROSECONDS
"""Before its horizon, that a drained lease must end to be ended for that: its address is then still kept from others
for as long as its client may hear late of its end. The others end at their horizons, as every lease does."""


def is_over(lease: Lease, at: int) -> bool:
    """Whether it is drained at `at`, and to be ended for that."""
    return 0 < lease.drained_at <= min(at, lease.horizon - APART)


class Drains:
    """Of the leases of one ledger. Entries that no longer hold are dropped when they are met."""

    def __init__(self) -> None:
        self._entries: list[tuple[int, bytes]] = []  # a heap: until when, and the address

    def note(self, lease: Lease) -> None:
        """The lease is drained until then."""
        if is_over(lease, lease.drained_at):
            heapq.heappush(self._entries, (lease.drained_at, lease.address))

    def due(self, leases: Mapping[bytes, Lease], now: int, limit: int) -> tuple[bytes, ...]:
        """Up to `limit` addresses whose time is over at `now`, the same until the log has said that they are gone."""
        found: dict[bytes, int] = {}
        while self._entries and self._entries[0][0] <= now and len(found) < limit:
            until, address = heapq.heappop(self._entries)
            lease = leases.get(address)
            if lease is not None and lease.drained_at == until:
                found[address] = until
        for address, until in found.items():
            heapq.heappush(self._entries, (until, address))
        return tuple(found)
