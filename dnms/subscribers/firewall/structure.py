"""What of the firewall is wanted by the plan: tables, sets, elements that say where a group is found, rules."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence

import msgspec

from dnms.domain.plan import PlanState
from dnms.domain.plan_delegation import is_relative
from dnms.domain.ranges import HOST_BITS, is_whole_64
from dnms.events.ip import MAPPED_BITS, Prefix, family
from dnms.events.plan import AdoptedPlan, Pool, Subnet
from dnms.subscribers.firewall import rules
from dnms.subscribers.firewall.items import (
    AddressSet,
    Confirmed,
    Item,
    Member,
    OurTable,
    group_set,
    hardware_set,
    held_set,
    net_set,
)
from dnms.subscribers.firewall.options import Options


def items(
    plan: PlanState,
    adopted: Sequence[AdoptedPlan],
    options: Options,
    *,
    sets: Sequence[AddressSet],
    by_field: bool,
    tracked: bool,
) -> Iterator[Item]:
    """All of it.

    `adopted`: by the ledgers, which know the prefixes that come from above. `sets`: of prefixes, that have members.
    `by_field`: every address that is leased says its group, as far as its pool has it so.
    """
    subnets, pools = _links(plan, adopted), _pools(plan, adopted)
    six = [pool for pool in pools if family(pool.first) == 6 and not is_relative(pool)]
    by_field = by_field and all(_says_group(pool) for pool in six)
    fields = [pool for pool in six if _says_group(pool)] if by_field else []
    nets = {name: _nets(subnet) for name, subnet in subnets.items()}
    prefixes = [each for each in sets if each.family == 6 and each.length < 128]
    facts = rules.Facts(
        groups=tuple(sorted(plan.groups)),
        rules=tuple(plan.rules[name] for name in sorted(plan.rules)),
        by_field=by_field,
        has_v4=any(family(pool.first) == 4 for pool in pools)
        or any(kind == 4 for net in nets.values() for kind, _ in net),
        has_prefixes=bool(plan.delegations) or any(pool.prefix_per_host for pool in pools),
        lengths={name: _lengths(prefixes, group_set(name, 6).name) for name in plan.groups},
        nets={name: tuple(sorted(net)) for name, net in nets.items()},
        guard=dict(sorted(options.guarded.items())),
        held={name: _lengths(prefixes, held_set(name, 6).name) for name in options.guarded},
        tables=options.tables,
        tracked=tracked,
        input=options.input,
    )
    made: list[Item] = [*(group_set(name, kind) for name in plan.groups for kind in (4, 6)), *prefixes]
    for name in options.guarded:
        made += [found(name, kind) for found in (held_set, hardware_set) for kind in (4, 6)]
    if facts.rules:
        made += _elements(plan, facts, nets, fields)
    for table in options.tables:
        yield OurTable(table)
        for item in made:
            yield _in(item, table)
    yield from rules.items(facts)
    if options.input and (facts.rules or facts.guard):
        yield Confirmed()


def _elements(
    plan: PlanState, facts: rules.Facts, nets: dict[str, dict[tuple[int, int], list[Prefix]]], fields: Sequence[Pool]
) -> Iterator[Item]:
    """Where members are found by the field in their addresses, and the prefixes of subnets that rules name."""
    if facts.by_field:
        for group in plan.groups.values():
            of = group_set(group.name, 6, rules.FIELD)
            yield of
            for pool in fields:
                yield Member(of, (int.from_bytes(pool.first) | group.number << HOST_BITS).to_bytes(16))
    for name in {peer.subnet for each in facts.rules for peer in each.peers if peer.subnet}:
        for (kind, length), found in nets.get(name, {}).items():
            of = net_set(name, kind, length)
            yield of
            for prefix in found:
                yield Member(of, prefix.network)


def _in(item: Item, table: str) -> Item:
    match item:
        case AddressSet():
            return msgspec.structs.replace(item, table=table)
        case Member():
            return Member(msgspec.structs.replace(item.of, table=table), item.element)
    return item


def _says_group(pool: Pool) -> bool:
    return is_whole_64(pool) and not pool.prefix_per_host


def _links(plan: PlanState, adopted: Sequence[AdoptedPlan]) -> dict[str, Subnet]:
    """Of each subnet of the plan what its ledger has adopted, with the prefixes that come from above."""
    known = {each.subnet.name: each.subnet for each in adopted if each.subnet is not None}
    return {name: known.get(name, subnet) for name, subnet in plan.subnets.items()}


def _pools(plan: PlanState, adopted: Sequence[AdoptedPlan]) -> list[Pool]:
    """Those of the plan and those that ledgers give from: one of the two may be older."""
    found = {(pool.name, pool.first, pool.last): pool for pool in plan.pools.values()}
    found |= {(pool.name, pool.first, pool.last): pool for each in adopted for pool in each.pools}
    return list(found.values())


def _nets(subnet: Subnet) -> dict[tuple[int, int], list[Prefix]]:
    found: defaultdict[tuple[int, int], list[Prefix]] = defaultdict(list)
    for prefix in subnet.prefixes:
        found[prefix.family, prefix.length - (MAPPED_BITS if prefix.family == 4 else 0)].append(prefix)
    return dict(found)


def _has_v4(nets: dict[tuple[int, int], list[Prefix]]) -> bool:
    return any(kind == 4 for kind, _ in nets)


def _lengths(sets: Sequence[AddressSet], stem: str) -> tuple[int, ...]:
    return tuple(sorted({each.length for each in sets if each.name == f"{stem}/{each.length}"}, reverse=True))
