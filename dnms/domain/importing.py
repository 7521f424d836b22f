"""What clients have from another server that they are to keep here: its leases, and the prefixes that it delegated.

Such a lease is promised for as long as its client was told, and no longer: when the client asks here for the first
time it is renewed like any other. The same again changes nothing, and a later state of the same lease is a renewal.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from dnms.domain import allocating, delegating, uplinks
from dnms.domain.aggregate import Refused
from dnms.events.address import AddressAllocated, AddressRenewed
from dnms.events.ip import Prefix, family
from dnms.events.plan import Delegation, Family
from dnms.events.prefix import PrefixDelegated, PrefixRenewed
from dnms.events.recorded import Event
from dnms.events.requests import AllocateAddress, ImportAddress, ImportPrefix

if TYPE_CHECKING:
    from dnms.domain.ledger import Ledger


Imported = ImportAddress | ImportPrefix


def imported(ledger: Ledger, request: Imported, *, at: int) -> Iterator[Event]:
    """What has to happen for the client to have it here too. Refused."""
    if isinstance(request, ImportAddress):
        return _address(ledger, request, at=at)
    return _prefix(ledger, request, at=at)


def _address(ledger: Ledger, request: ImportAddress, *, at: int) -> Iterator[Event]:
    """Refused `over`, `no-subnet`, `unknown-group`, `has-another`, `not-in-plan`, `reserved-address`, `other-block`,
    `not-in-group`, `in-use`.
    """
    _check(ledger, request, at)
    kind: Family = 4 if family(request.address) == 4 else 6
    until = min(request.valid_until, uplinks.valid_until(ledger.uplinks, request.address))
    there = ledger.leases.get(request.address)
    if there is not None and there.binding == (request.client, request.iaid, kind):
        if until > there.horizon and not there.drained_at:
            yield AddressRenewed(
                address=there.address, client=there.client, iaid=there.iaid, valid_until=until, horizon=until
            )
        return
    if ledger.lease(request.client, request.iaid, kind) is not None:
        raise Refused("has-another", "the client has another address here for this interface")
    asking = AllocateAddress(client=request.client, iaid=request.iaid, family=kind, group=request.group)
    chosen = allocating.named(ledger, asking, request.address, at=at, has_it=True)
    yield AddressAllocated(
        address=request.address,
        client=request.client,
        iaid=request.iaid,
        pool=chosen.pool.name,
        group=request.group,
        valid_until=until,
        horizon=until,
        origin=request.origin,
    )


def _prefix(ledger: Ledger, request: ImportPrefix, *, at: int) -> Iterator[Event]:
    """Refused `over`, `no-subnet`, `unknown-group`, `has-another`, `too-many-associations`, `not-in-plan`, `in-use`."""
    _check(ledger, request, at)
    until = min(request.valid_until, uplinks.valid_until(ledger.uplinks, request.prefix.network))
    there = ledger.delegations.all.get(request.prefix)
    if there is not None and (there.client, there.iaid) == (request.client, request.iaid):
        if until > there.horizon and not there.drained_at:
            yield PrefixRenewed(
                prefix=there.prefix,
                client=there.client,
                iaid=there.iaid,
                next_hop=there.next_hop,
                interface=there.interface,
                group=there.group,
                valid_until=until,
                horizon=until,
            )
        return
    if ledger.delegations.of(request.client, request.iaid):
        raise Refused("has-another", "the client has another prefix here for this association")
    if ledger.delegations.associations(request.client) >= delegating.MAX_ASSOCIATIONS:
        raise Refused("too-many-associations", f"a client may have prefixes for {delegating.MAX_ASSOCIATIONS}")
    yield PrefixDelegated(
        prefix=request.prefix,
        client=request.client,
        iaid=request.iaid,
        delegation=_pool(ledger, request, at).name,
        next_hop=request.next_hop,
        group=request.group,
        valid_until=until,
        horizon=until,
        origin=request.origin,
    )


def _check(ledger: Ledger, request: Imported, at: int) -> None:
    if ledger.plan.subnet is None:
        raise Refused("no-subnet", "the plan has no such subnet")
    if request.valid_until <= at:
        raise Refused("over", "the lease has ended")
    allocating.check_group(ledger, request.group)


def _pool(ledger: Ledger, request: ImportPrefix, at: int) -> Delegation:
    """The pool of which the prefix is one whole free block."""
    for pool in ledger.plan.delegations:
        source = delegating.source_of(pool, ledger.uplinks)
        if source is None or not _is_block(pool, source, request.prefix):
            continue
        taken = any(each.overlaps(request.prefix) for each in delegating.kept(ledger.plan, pool, ledger.uplinks))
        if taken or not ledger.delegations.is_free(request.prefix, request.client, at):
            raise Refused("in-use", "another client has this prefix or a part of it, or the link has, or it rests")
        return pool
    raise Refused("not-in-plan", "no delegation of the plan has such a block")


def _is_block(pool: Delegation, source: Prefix, block: Prefix) -> bool:
    shortest = max(pool.shortest or pool.length, source.length)
    return source.covers(block) and shortest <= block.length <= pool.longest
