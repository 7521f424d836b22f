"""Addresses that somebody else uses: their quarantine, and where their holder's next candidates begin."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from dnms.domain.aggregate import Refused
from dnms.domain.leases import Lease
from dnms.domain.reserved import prefix_in
from dnms.events.address import AddressDeclined, HashMoved
from dnms.events.recorded import Event
from dnms.kit.clock import MICROSECONDS

if TYPE_CHECKING:
    from dnms.domain.ledger import Ledger

MAX_DECLINES: Final = 8
"""Addresses that one client may have in quarantine, declined or blocked, so that a broken one cannot eat the pool."""


def check(ledger: Ledger, client: bytes, *, at: int) -> None:
    """Refused `too-many-declines` if the client keeps too many addresses from others already."""
    if ledger.remembered.declines(client, at=at) >= MAX_DECLINES:
        raise Refused("too-many-declines", f"{MAX_DECLINES} addresses are in quarantine for this client already")


def decline(ledger: Ledger, lease: Lease, *, at: int) -> tuple[Event, ...]:
    """The holder has found its address in use by another. Refused `too-many-declines`."""
    check(ledger, lease.client, at=at)
    pool = ledger.pool_of(lease.address)
    quarantine = pool.quarantine if pool else 0
    declined = AddressDeclined(
        address=lease.address,
        client=lease.client,
        iaid=lease.iaid,
        quarantined_until=at + quarantine * MICROSECONDS,
    )
    return declined, *moved_on(ledger, lease)


def moved_on(ledger: Ledger, lease: Lease) -> tuple[HashMoved, ...]:
    """The holder's candidates begin behind those that it has come to."""
    prefix = prefix_in(ledger.plan.subnet, lease.address) if ledger.plan.subnet else None
    if prefix is None:
        return ()
    counter = ledger.remembered.counter((lease.client, lease.iaid, prefix)) + 1
    return (HashMoved(client=lease.client, iaid=lease.iaid, prefix=prefix, counter=counter),)
