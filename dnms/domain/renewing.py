"""When a holder keeps its address for another lifetime, and when the log has to say so."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from dnms.domain import uplinks
from dnms.domain.aggregate import Refused
from dnms.events.address import AddressRenewed
from dnms.events.ip import family
from dnms.kit.clock import MICROSECONDS

if TYPE_CHECKING:
    from dnms.domain.leases import Lease
    from dnms.domain.ledger import Ledger

HORIZON: Final = {4: 1, 6: 4}
"""For how many valid lifetimes the log promises an address by family: a renewal that ends before needs no event."""


def renew(ledger: Ledger, lease: Lease, *, at: int) -> tuple[AddressRenewed, ...]:
    """The event that is needed for the holder to have its address for another lifetime. Refused `not-in-plan`."""
    pool = ledger.pool_of(lease.address)
    if lease.drained_at:
        return ()
    if pool is None:
        raise Refused("not-in-plan", "no pool of the plan has this address any more")
    until = uplinks.valid_until(ledger.uplinks, lease.address)
    valid_until = min(until, at + pool.valid * MICROSECONDS)
    # On a strict subnet the log has every lifetime that a client is told.
    known = lease.valid_until if ledger.plan.subnet is not None and ledger.plan.subnet.strict else lease.horizon
    if valid_until <= known:
        return ()
    promised = min(until, at + HORIZON[family(lease.address)] * pool.valid * MICROSECONDS)
    horizon = max(lease.horizon, promised)  # no promise ends by being renewed
    return (
        AddressRenewed(
            address=lease.address,
            client=lease.client,
            iaid=lease.iaid,
            valid_until=valid_until,
            horizon=horizon,
        ),
    )
