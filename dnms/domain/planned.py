"""The addresses that the plan reserves, in the ledger that has adopted it: kept for clients as an operator's are.

What the plan says wins over what an operator has reserved, and over leases of others, which end. It is worked out of
what is kept and what is wanted, and not of what has changed, so that whoever is cut short in it goes on.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from dnms.domain.identity import ANY_INTERFACE, iaid_of
from dnms.events.address import AddressHeld, AddressReleased, AddressUnheld
from dnms.events.ip import family
from dnms.events.plan import AdoptedPlan, Family
from dnms.events.recorded import Event
from dnms.events.requests import ClaimReserved

if TYPE_CHECKING:
    from dnms.domain.ledger import Ledger

Holder = tuple[bytes, int]
"""Client and IAID."""


ANY_IAID = iaid_of(ANY_INTERFACE)
"""Under which an address is kept whose client has not come yet, and may ask under any."""


def holders(plan: AdoptedPlan) -> dict[bytes, Holder]:
    """For whom the plan reserves which address."""
    return {each.address: (each.client, iaid_of(each.interface)) for each in plan.reservations}


def keepers(ledger: Ledger, plan: AdoptedPlan) -> dict[bytes, Holder]:
    """For whom it is kept so: for who has come in the place of the one that the plan names, where somebody has."""
    return {
        address: ledger.held[address] if ledger.planned.get(address) == holder else holder
        for address, holder in holders(plan).items()
    }


def changes(ledger: Ledger, plan: AdoptedPlan) -> Iterator[Event]:
    """What has to happen for the ledger to keep what the plan reserves, and nothing that it reserves no longer."""
    wanted = holders(plan)
    for address, reserved in ledger.planned.items():
        if wanted.get(address) != reserved:
            yield _unheld(ledger, address)
    for address, (client, iaid) in wanted.items():
        there, holder = ledger.held.get(address), ledger.planned.get(address)
        if holder == (client, iaid):
            continue
        if there is not None and there != (client, iaid) and holder is None:
            yield _unheld(ledger, address)
        yield AddressHeld(address=address, client=client, iaid=iaid, planned=True)


def claims(
    ledger: Ledger, reserved_for: Iterable[bytes], client: bytes, iaid: int, kind: Family
) -> Iterator[ClaimReserved]:
    """What a client has to ask for that may be one of those for whom something is reserved on any interface.

    Nothing while it has what is reserved under another IAID.
    """
    for whom in reserved_for:
        for address in ledger.adopted.reserved.get(whom, ()):
            if family(address) != kind or ledger.held.get(address) == (client, iaid):
                continue
            lease = ledger.leases.get(address)
            if lease is None or lease.client != client or lease.iaid == iaid:
                yield ClaimReserved(client=client, iaid=iaid, family=kind, reserved_for=whom)
                break


def claim(ledger: Ledger, request: ClaimReserved) -> Iterator[Event]:
    """Keep for a client what is reserved for it on any interface, or for its hardware address. A lease that somebody
    else has of it is over: who has come is the same machine, by another name.
    """
    who = (request.client, request.iaid)
    for address in ledger.adopted.reserved.get(request.reserved_for, ()):
        is_planned = ledger.planned.get(address) == (request.reserved_for, ANY_IAID)
        if family(address) != request.family or not is_planned or ledger.held[address] == who:
            continue
        lease = ledger.leases.get(address)
        if lease is not None and (lease.client, lease.iaid) != who:
            yield AddressReleased(address=address, client=lease.client, iaid=lease.iaid)
        yield _unheld(ledger, address)
        yield AddressHeld(address=address, client=who[0], iaid=who[1], planned=True, reserved_for=request.reserved_for)


def holder_of(event: AddressHeld) -> Holder | None:
    """For whom the plan reserves what is kept; None if it does not."""
    if not event.planned:
        return None
    return (event.client, event.iaid) if event.reserved_for is None else (event.reserved_for, ANY_IAID)


def _unheld(ledger: Ledger, address: bytes) -> AddressUnheld:
    client, iaid = ledger.held[address]
    return AddressUnheld(address=address, client=client, iaid=iaid)
