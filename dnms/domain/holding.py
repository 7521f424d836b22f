"""Addresses that are kept for a client before it asks, and those that somebody uses who was not given them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from dnms.domain import allocating, declining
from dnms.domain.aggregate import Refused
from dnms.domain.reserved import is_reserved
from dnms.events.address import AddressBlocked, AddressHeld, AddressReleased, AddressUnheld
from dnms.events.recorded import Event
from dnms.events.requests import AllocateAddress, BlockAddress, HoldAddress, JoinAddresses, UnholdAddress
from dnms.kit.clock import MICROSECONDS

if TYPE_CHECKING:
    from dnms.domain.leases import Lease
    from dnms.domain.ledger import Ledger

MAX_HOLDS: Final = 8
"""Addresses that are kept for one client on one interface: an assignment names no more."""


def hold(ledger: Ledger, request: HoldAddress, *, at: int, entropy: bytes) -> Iterator[Event]:
    """Keep an address for a client.

    Refused `not-in-plan`, `reserved-address`, `held`, `in-use`, `other-block`, `too-many-holds`.
    """
    who = (request.client, request.iaid)
    if request.address is not None and ledger.held.get(request.address) == who:
        return
    if request.address is None:
        yield from _hold_next(ledger, request, at=at, entropy=entropy)
        return
    if len(ledger.holds.get((*who, request.family), ())) >= MAX_HOLDS:
        raise Refused("too-many-holds", f"{MAX_HOLDS} addresses are kept for this client already")
    subnet, pool = ledger.plan.subnet, ledger.pool_of(request.address)
    if subnet is None or pool is None:
        raise Refused("not-in-plan", "no pool of the subnet has this address")
    if is_reserved(request.address, subnet):
        raise Refused("reserved-address", "nobody may be given this address")
    if request.address in ledger.held:
        raise Refused("held", "the address is kept for another client")
    if not ledger.is_open_to(request.address, *who):
        raise Refused("in-use", "another client has this address, or its /64; move that client first")
    allocating.check_block(ledger, pool, request.address, *who)
    yield AddressHeld(address=request.address, client=request.client, iaid=request.iaid)


def _hold_next(ledger: Ledger, request: HoldAddress, *, at: int, entropy: bytes) -> Iterator[Event]:
    """Keep what the client has, or what it would be given; where that is not its first candidate, say so (RFC 7943).

    Nothing where an address is kept that it can be given; those for which the plan has no place any more are replaced.
    """
    lease = ledger.lease(request.client, request.iaid, request.family)
    kept = ledger.holds.get((request.client, request.iaid, request.family), ())
    if any(ledger.pool_of(address) is not None for address in kept):
        return  # it has its addresses
    for address in kept:
        yield AddressUnheld(address=address, client=request.client, iaid=request.iaid)
    if lease is not None and lease.address not in ledger.held and _fits(ledger, lease, request.group):
        yield AddressHeld(address=lease.address, client=request.client, iaid=request.iaid)
        return
    asking = AllocateAddress(client=request.client, iaid=request.iaid, family=request.family, group=request.group)
    allocating.check_group(ledger, request.group)
    chosen = allocating.choose(ledger, asking, at=at, entropy=entropy)
    yield from allocating.moved(request, chosen)
    yield AddressHeld(address=chosen.address, client=request.client, iaid=request.iaid)


def _fits(ledger: Ledger, lease: Lease, group: int) -> bool:
    """Whether a member of the group may keep this address."""
    pool = ledger.pool_of(lease.address)
    return pool is not None and allocating.fits(ledger, pool, lease.address, group)


def unhold(ledger: Ledger, request: UnholdAddress) -> Iterator[Event]:
    """Keep an address for a client no longer. Refused `not-held`, `planned`."""
    if ledger.held.get(request.address) != (request.client, request.iaid):
        raise Refused("not-held", "the address is not kept for this client")
    if request.address in ledger.planned:
        raise Refused("planned", "the plan reserves the address; take it out there")
    yield AddressUnheld(address=request.address, client=request.client, iaid=request.iaid)


def join(ledger: Ledger, request: JoinAddresses) -> Iterator[Event]:
    """Keep for one client what is kept for another, as much as one may have. The other's leases of it are over: the
    machine is the same one, and asks by its new name.
    """
    if (request.client, request.iaid) == (request.into, request.into_iaid):
        return
    for kind in (6, 4):
        room = MAX_HOLDS - len(ledger.holds.get((request.into, request.into_iaid, kind), ()))
        kept = ledger.holds.get((request.client, request.iaid, kind), ())
        for address in [each for each in kept if each not in ledger.planned][: max(0, room)]:
            lease = ledger.leases.get(address)
            if lease is not None and lease.client == request.client:
                yield AddressReleased(address=address, client=lease.client, iaid=lease.iaid)
            yield AddressUnheld(address=address, client=request.client, iaid=request.iaid)
            yield AddressHeld(address=address, client=request.into, iaid=request.into_iaid)


def owner_of(ledger: Ledger, address: bytes) -> bytes | None:
    """Who has an address, or for whom it is kept."""
    lease, kept = ledger.leases.get(address), ledger.held.get(address)
    return lease.client if lease is not None else kept[0] if kept is not None else None


def block(ledger: Ledger, request: BlockAddress, *, at: int) -> Iterator[Event]:
    """Give an address to nobody that a client has without having been given it; its `holder` by the log is moved.

    What is another's is not taken by a claim: a holder has to be named, of whom the link has shown that it is not the
    one that uses it. Refused `not-in-plan`, `in-use`, `too-many-declines`.
    """
    pool = ledger.pool_of(request.address)
    if pool is None:
        raise Refused("not-in-plan", "no pool of the subnet has this address")
    lease, kept = ledger.leases.get(request.address), ledger.held.get(request.address)
    if request.client in (lease.client if lease else None, kept[0] if kept else None):
        return  # it is its own
    until = at + pool.quarantine * MICROSECONDS
    if lease is None and ledger.quarantine.get(request.address, 0) > at + pool.quarantine * MICROSECONDS // 2:
        return  # it is blocked, for long enough
    owner = owner_of(ledger, request.address)
    if owner not in (None, request.holder):
        raise Refused("in-use", "another client has this address, or it is kept for one")
    declining.check(ledger, request.client, at=at)
    if lease is not None:
        yield allocating.withdrawn(lease)
        yield from declining.moved_on(ledger, lease)
    yield AddressBlocked(address=request.address, client=request.client, blocked_until=until, cause=request.cause)
