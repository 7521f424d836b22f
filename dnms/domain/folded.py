"""The state of a site at some place in its log, as events that lead to it: what a part of a log begins with."""

from __future__ import annotations

from collections.abc import Iterator

from dnms.domain.delegations import Delegated
from dnms.domain.ledger import Ledger
from dnms.domain.nodes import NodeShard
from dnms.domain.plan import PlanState
from dnms.domain.replay import Replay
from dnms.events.address import AddressAllocated, AddressBlocked, AddressDeprecated, AddressHeld, HashMoved
from dnms.events.node import NodeArrived, NodeJoined, NodeReady
from dnms.events.plan import (
    DelegationDefined,
    GroupDefined,
    PlanAdopted,
    PoolDefined,
    RealmDefined,
    ReservationDefined,
    SiteDefined,
    SubnetDefined,
    UplinkDefined,
)
from dnms.events.prefix import PrefixDelegated, PrefixDeprecated
from dnms.events.recorded import Event
from dnms.events.rule import RuleDefined
from dnms.events.uplink import UplinkDeprecated, UplinkReceived


def folded(replay: Replay) -> Iterator[tuple[str, Event]]:
    """By subject, in an order in which they can be folded: the plan, nodes, what is above, leases, what is kept and
    what rests, prefixes, and what is seen.

    To whom an address was promised when a lease ended early, and who had those that are free, is not in it: nobody can
    decide on it as on the log.
    """
    for event in _plan(replay.plan):
        yield replay.plan_subject, event
    for subject, shard in replay.shards.items():
        for event in _nodes(shard):
            yield subject, event
    for subject, ledger in replay.ledgers.items():
        for event in _ledger(ledger):
            yield subject, event


def _plan(plan: PlanState) -> Iterator[Event]:
    if not plan.position:
        return
    yield SiteDefined(name=plan.site, level=plan.level, strict=plan.strict)
    yield from (RealmDefined(realm=each) for each in plan.realms.values())
    yield from (GroupDefined(group=each) for each in plan.groups.values())
    yield from (UplinkDefined(uplink=each) for each in plan.uplinks.values())
    yield from (SubnetDefined(subnet=each) for each in plan.subnets.values())
    yield from (PoolDefined(pool=each) for each in plan.pools.values())
    yield from (DelegationDefined(delegation=each) for each in plan.delegations.values())
    yield from (ReservationDefined(reservation=each) for each in plan.reservations.values())
    yield from (RuleDefined(rule=each) for each in plan.rules.values())


def _nodes(shard: NodeShard) -> Iterator[Event]:
    for client, node in shard.nodes.items():
        if node.entered is not None:
            yield node.entered
        if node.identity is not None:
            yield node.identity
        if node.subnet:
            yield NodeArrived(client=client, subnet=node.subnet)
        if node.ready:
            yield NodeReady(client=client)
        if node.joined:
            yield NodeJoined(client=client, into=node.joined)


def _ledger(ledger: Ledger) -> Iterator[Event]:
    yield from _uplinks(ledger)
    if ledger.plan.position:
        yield PlanAdopted(plan=ledger.plan)
    firsts = set(ledger.bindings.values())
    leases = sorted(ledger.leases.values(), key=lambda lease: (lease.address not in firsts, lease.address))
    for lease in leases:  # the first one of each binding first
        yield AddressAllocated(
            address=lease.address,
            client=lease.client,
            iaid=lease.iaid,
            pool=lease.pool,
            group=lease.group,
            valid_until=lease.valid_until,
            horizon=lease.horizon,
        )
    for lease in leases:
        if lease.drained_at:
            yield AddressDeprecated(
                address=lease.address, client=lease.client, iaid=lease.iaid, valid_until=lease.drained_at
            )
    for address, (client, iaid) in ledger.held.items():
        reserved = ledger.planned.get(address)
        yield AddressHeld(
            address=address,
            client=client,
            iaid=iaid,
            planned=reserved is not None,
            reserved_for=None if reserved in (None, (client, iaid)) else reserved[0],
        )
    for address, until in ledger.quarantine.items():
        yield AddressBlocked(address=address, client=bytes(16), blocked_until=until)
    for (client, iaid, prefix), counter in ledger.remembered.dump().counters:
        yield HashMoved(client=client, iaid=iaid, prefix=prefix, counter=counter)
    for each in ledger.delegations.all.values():
        yield from _delegated(each)
    yield from ledger.sightings.folded()


def _uplinks(ledger: Ledger) -> Iterator[Event]:
    for each in ledger.uplinks.values():
        yield UplinkReceived(
            uplink=each.uplink,
            prefix=each.prefix,
            preferred_until=each.preferred_until,
            valid_until=each.valid_until,
            source=each.source,
            exclude=each.exclude,
        )
        if each.deprecated:
            yield UplinkDeprecated(
                uplink=each.uplink, prefix=each.prefix, valid_until=each.valid_until, source=each.source
            )


def _delegated(each: Delegated) -> Iterator[Event]:
    yield PrefixDelegated(
        prefix=each.prefix,
        client=each.client,
        iaid=each.iaid,
        delegation=each.delegation,
        next_hop=each.next_hop,
        interface=each.interface,
        group=each.group,
        exclude=each.exclude,
        valid_until=each.valid_until,
        horizon=each.horizon,
    )
    if each.drained_at:
        yield PrefixDeprecated(
            prefix=each.prefix,
            client=each.client,
            iaid=each.iaid,
            next_hop=each.next_hop,
            valid_until=each.drained_at,
        )
