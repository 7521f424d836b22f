"""What becomes of addresses for which another plan has no place: make before break, where there is time for that.

An address of a pool that the plan has no more is deprecated and drained, as it is where its holder goes to another
group: the holder is given one of another pool beside it, and what uses the old one goes on for the `drain` of its pool.
Until then the ledger remembers where the address lies, since the plan does not say it any more. What the plan needs at
once ends at once: a gateway's address, one that it reserves for somebody else, or one in another client's own /64; and
what it puts nothing in the place of.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from dnms.domain import planned, uplinks
from dnms.domain.adopted import Place
from dnms.domain.allocating import deprecated, withdrawn
from dnms.domain.blocks import block_of
from dnms.domain.reserved import fixed_addresses
from dnms.domain.uplinks import Uplinks
from dnms.events.ip import family
from dnms.events.plan import AdoptedPlan
from dnms.events.recorded import Event
from dnms.kit.clock import MICROSECONDS

if TYPE_CHECKING:
    from dnms.domain.ledger import Ledger


def contradicted(ledger: Ledger, plan: AdoptedPlan, above: Uplinks, *, at: int) -> Iterator[Event]:
    """The ends of the leases for which a plan, with these uplinks, has no place: in no pool, given to nobody, another's
    by the plan, or in another client's own /64.
    """
    before, reserved = ledger.cut_from, planned.keepers(ledger, plan)
    fixed = fixed_addresses(plan.subnet)
    ranges = [(pool.first, pool.last) for pool in plan.pools]
    blocks = [(pool.first, pool.last) for pool in plan.pools if pool.prefix_per_host]
    families = {family(pool.first) for pool in plan.pools} if plan.subnet is not None else set()
    drains = {pool.name: pool.drain for pool in plan.pools}
    owners: dict[bytes, bytes] = {}  # of each block the client with the lowest address
    for address in sorted(ledger.leases) if blocks else ():
        owners.setdefault(block_of(address), ledger.leases[address].client)
    for address in ledger.leases:  # which of a million are looked at by their addresses alone, while others wait
        if address in fixed:
            yield withdrawn(ledger.leases[address])
        elif not any(first <= address <= last for first, last in ranges):
            lease, place = ledger.leases[address], ledger.place_of(address)
            if place is None or family(address) not in families or uplinks.is_lost(before, above, address):
                yield withdrawn(lease)
            elif not lease.drained_at:  # who gives a pool another range says with it how long the old one is drained
                drain = drains.get(place.pool.name, place.pool.drain)
                yield deprecated(lease, min(at + drain * MICROSECONDS, uplinks.valid_until(above, address)))
        elif blocks or address in reserved:
            lease = ledger.leases[address]
            is_anothers = reserved.get(address, (lease.client, lease.iaid)) != (lease.client, lease.iaid)
            in_block = any(first <= address <= last for first, last in blocks)
            if is_anothers or (in_block and owners[block_of(address)] != lease.client):
                yield withdrawn(lease)


def after(ledger: Ledger, plan: AdoptedPlan) -> tuple[Place, ...]:
    """Of what a ledger gave until now and before, what `plan` gives no more and somebody has something of."""
    if plan.subnet is None:
        return ()
    ranges = {(pool.first, pool.last) for pool in plan.pools}
    former = [Place(pool, prefix) for kind in (6, 4) for pool, prefix in ledger.adopted.pools(kind)]
    gone = [each for each in (*former, *ledger.adopted.leaving) if (each.pool.first, each.pool.last) not in ranges]
    left: dict[int, None] = {}
    for address in ledger.leases if gone else ():
        if not any(pool.first <= address <= pool.last for pool in plan.pools):
            found = (n for n, each in enumerate(gone) if each.pool.first <= address <= each.pool.last)
            left.update(dict.fromkeys(list(found)[:1]))
    return tuple(gone[number] for number in sorted(left))
