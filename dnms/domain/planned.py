"""The addresses that the plan reserves, in the ledger that has adopted it: kept for clients as an operator's are.

What the plan says wins over what an operator has reserved, and over leases of others, which end. It is worked out of
what is kept and what is wanted, and not of what has changed, so that whoever is cut short in it goes on.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from dnms.domain.identity import iaid_of
from dnms.events.address import AddressHeld, AddressUnheld
from dnms.events.plan import AdoptedPlan
from dnms.events.recorded import Event

if TYPE_CHECKING:
    from dnms.domain.ledger import Ledger

Holder = tuple[bytes, int]
"""Client and IAID."""


def holders(plan: AdoptedPlan) -> dict[bytes, Holder]:
    """For whom the plan keeps which address."""
    return {each.address: (each.client, iaid_of(each.interface)) for each in plan.reservations}


def changes(ledger: Ledger, plan: AdoptedPlan) -> Iterator[Event]:
    """What has to happen for the ledger to keep what the plan reserves, and nothing that it reserves no longer."""
    wanted = holders(plan)
    for address in ledger.planned:
        client, iaid = ledger.held[address]
        if wanted.get(address) != (client, iaid):
            yield AddressUnheld(address=address, client=client, iaid=iaid)
    for address, (client, iaid) in wanted.items():
        there, is_planned = ledger.held.get(address), address in ledger.planned
        if there == (client, iaid) and is_planned:
            continue
        if there is not None and there != (client, iaid) and not is_planned:
            yield AddressUnheld(address=address, client=there[0], iaid=there[1])
        yield AddressHeld(address=address, client=client, iaid=iaid, planned=True)
