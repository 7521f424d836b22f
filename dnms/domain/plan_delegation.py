"""What has to be right in a plan about uplinks and what is cut from them."""

from __future__ import annotations

from collections.abc import Iterator

from dnms.domain.strategies import COUNTING
from dnms.events.ip import family
from dnms.events.plan import Delegation, Pool, Subnet
from dnms.events.requests import ApplyPlan

STRATEGIES = ("hash", COUNTING)
"""How blocks are picked: by a keyed hash, or the lowest free one."""


def is_relative(pool: Pool) -> bool:
    """Whether its range is one of interface identifiers, in the /64 that the subnet has from its uplink."""
    return family(pool.first) == 6 and not any(pool.first[:8]) and not any(pool.last[:8])


def problems(request: ApplyPlan) -> Iterator[str]:
    """Each with its place."""
    yield from _subnet_problems(request)
    yield from _delegation_problems(request)


def _subnet_problems(request: ApplyPlan) -> Iterator[str]:
    uplinks = sorted(each.name for each in request.uplinks)
    asking = {each.name for each in request.uplinks if each.protocol == "dhcpv6"}
    users: dict[str, str] = {}
    taken: dict[tuple[str, int], str] = {}
    for index, subnet in enumerate(request.subnets):
        place = f"$.subnet[{index}]"
        if subnet.downlink.uplink and subnet.downlink.uplink not in uplinks:
            yield f"{place}.uplink: there is no uplink {subnet.downlink.uplink!r}; expected one of {uplinks}"
        if not subnet.prefixes and not subnet.downlink.uplink:
            yield f"{place}.prefixes: expected at least one prefix, or an uplink from which the subnet has one"
        uplink, nth = subnet.downlink.uplink, subnet.downlink.nth
        if uplink and (other := taken.setdefault((uplink, nth), subnet.name)) != subnet.name:
            yield f"{place}.nth: subnet {other!r} has /64 number {nth} of uplink {uplink!r}; take another"
        elif uplink in asking and (first := users.setdefault(uplink, subnet.name)) != subnet.name:
            text = f"subnet {first!r} has uplink {uplink!r} already, and by DHCPv6 one agent alone asks on an interface"
            yield f"{place}.uplink: {text}; delegate to the second router below the first, or give it an uplink"
    subnets = {subnet.name: subnet for subnet in request.subnets}
    for index, pool in enumerate(request.pools):
        owner = subnets.get(pool.subnet)
        if is_relative(pool) and owner is not None and not owner.downlink.uplink:
            text = f"is of a /64 from an uplink, and subnet {owner.name!r} has none"
            yield f"$.pool[{index}].range: a range in ::/64 {text}; expected a range in one of its prefixes"


def _delegation_problems(request: ApplyPlan) -> Iterator[str]:
    subnets = {subnet.name: subnet for subnet in request.subnets}
    for index, each in enumerate(request.delegations):
        place, subnet = f"$.delegation[{index}]", subnets.get(each.subnet)
        if each.strategy not in STRATEGIES:
            yield f"{place}.strategy: there is no strategy {each.strategy!r}; expected one of {list(STRATEGIES)}"
        if each.preferred > each.valid:
            yield f"{place}.preferred: {each.preferred} s is longer than the valid lifetime of {each.valid} s"
        if not (each.shortest or each.length) <= each.length <= each.longest:
            yield f"{place}.length: expected shortest <= length <= longest, and not /{each.length}"
        if subnet is None:
            yield f"{place}.subnet: there is no subnet {each.subnet!r}; expected one of {sorted(subnets)}"
        elif each.prefix is None:
            yield from _cut_problems(place, each, subnet, request)
        else:
            yield from _prefix_problems(place, each, subnet, request)


def _cut_problems(place: str, delegation: Delegation, subnet: Subnet, request: ApplyPlan) -> Iterator[str]:
    """Of what is cut from what comes from above: one pool has all of it, but for the links of this router."""
    if not subnet.downlink.uplink:
        yield f"{place}.prefix: subnet {subnet.name!r} has no uplink to cut from; expected a prefix"
        return
    links = [each for each in request.subnets if each.downlink.uplink == subnet.downlink.uplink]
    if outside := [each.name for each in links if each.downlink.nth >= delegation.keep]:
        yield f"{place}.keep: the /64 of subnet {outside[0]!r} would be delegated; keep more than its number"
    others = (each for each in request.delegations if each.prefix is None and each.name < delegation.name)
    by_name = {each.name: each for each in request.subnets}
    for other in others:
        if other.subnet in by_name and by_name[other.subnet].downlink.uplink == subnet.downlink.uplink:
            yield f"{place}: delegation {other.name!r} is cut from uplink {subnet.downlink.uplink!r} already"


def _prefix_problems(place: str, delegation: Delegation, subnet: Subnet, request: ApplyPlan) -> Iterator[str]:
    prefix = delegation.prefix
    assert prefix is not None
    if prefix.family != 6:
        yield f"{place}.prefix: {prefix} is of IPv4; prefixes are delegated of IPv6"
        return
    if prefix.length > (delegation.shortest or delegation.length):
        yield f"{place}.prefix: a block of /{delegation.shortest or delegation.length} does not fit into {prefix}"
    realms = {each.name: each.realm for each in request.subnets}
    for other in request.delegations:
        is_before = other.name < delegation.name and realms.get(other.subnet) == subnet.realm
        if is_before and other.prefix is not None and other.prefix.overlaps(prefix):
            yield f"{place}.prefix: {prefix} overlaps {other.prefix} of delegation {other.name!r}"
    for link in request.subnets:
        if link.name != subnet.name and link.realm == subnet.realm:
            for taken in link.prefixes:
                if taken.overlaps(prefix):
                    yield f"{place}.prefix: {prefix} overlaps {taken} of subnet {link.name!r}"
