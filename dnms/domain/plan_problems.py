"""What has to be right in a plan: each problem with the place where it stands."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import pairwise

from dnms.domain import dhcp_table
from dnms.domain.holding import MAX_HOLDS
from dnms.domain.plan_delegation import is_relative
from dnms.domain.ranges import is_whole_64
from dnms.domain.reserved import RESERVED_GROUPS, is_reserved
from dnms.domain.strategies import STRATEGIES
from dnms.events.ip import Prefix, family, format_address, is_link_local
from dnms.events.plan import Advertise, Pool, Subnet
from dnms.events.requests import ApplyPlan

_MULTICAST = 0xFF  # the first byte of a group
_NAT64_LENGTHS = (32, 40, 48, 56, 64, 96)  # RFC 6052, 2.2


def problems(request: ApplyPlan) -> Iterator[str]:
    """All of them but those of names and of delegations."""
    yield from _group_problems(request)
    yield from _subnet_problems(request)
    yield from _pool_problems(request)
    yield from _reservation_problems(request)
    yield from dhcp_table.problems(request)


def _group_problems(request: ApplyPlan) -> Iterator[str]:
    numbers: dict[int, str] = {}
    if len(request.groups) > 1 << 15:
        yield "$.group: expected at most 32768 groups, half of the numbers"
    for index, group in enumerate(request.groups):
        place = f"$.group[{index}].number"
        if group.number and group.number in RESERVED_GROUPS:
            yield f"{place}: {group.number:#06x} is reserved; choose another, or leave it out and one is drawn"
        if group.number and group.number in numbers:
            yield f"{place}: {group.number:#06x} is the number of group {numbers[group.number]!r}; numbers are unique"
        numbers[group.number] = group.name
    yield from _range_problems(request)


def _range_problems(request: ApplyPlan) -> Iterator[str]:
    """A group's ranges lie in pools whose addresses do not say the group, and are its own."""
    places = [
        (group.name, f"$.group[{index}].ranges[{nth}]", prefix)
        for index, group in enumerate(request.groups)
        for nth, prefix in enumerate(group.ranges)
    ]
    for name, place, prefix in places:
        pool = next((pool for pool in request.pools if pool.first <= prefix.network <= pool.last), None)
        if pool is None or prefix.last > int.from_bytes(pool.last):
            yield f"{place}: {prefix} lies in no pool; expected a part of the range of one"
        elif is_whole_64(pool) or pool.prefix_per_host:
            yield f"{place}: in pool {pool.name!r} the group's number is a part of the address; leave the range out"
        for other, _, second in places:
            if other < name and prefix.overlaps(second):
                yield f"{place}: {prefix} overlaps {second} of group {other!r}"


def _subnet_problems(request: ApplyPlan) -> Iterator[str]:
    realms = {realm.name for realm in request.realms}
    groups = {group.name for group in request.groups}
    places: list[tuple[str, str, Prefix]] = []
    for index, subnet in enumerate(request.subnets):
        if subnet.realm not in realms:
            yield f"$.subnet[{index}].realm: there is no realm {subnet.realm!r}; expected one of {sorted(realms)}"
        for nth, prefix in enumerate(subnet.prefixes):
            place = f"$.subnet[{index}].prefixes[{nth}]"
            if prefix.family == 6 and prefix.length > 64:
                yield f"{place}: {prefix} is smaller than a /64, the smallest IPv6 block that is managed"
            places.append((subnet.realm, place, prefix))
        yield from _gateway_problems(f"$.subnet[{index}]", subnet, subnet.gateways)
        if subnet.downlink.advertise is not None:
            yield from _advertise_problems(f"$.subnet[{index}].advertise", subnet.downlink.advertise)
        for nth, (name, told) in enumerate(subnet.groups.items()):
            place = f"$.subnet[{index}].group[{nth}]"
            if name not in groups:
                yield f"{place}.name: there is no group {name!r}; expected one of {sorted(groups)}"
            yield from _gateway_problems(place, subnet, told.gateways or ())
    for (realm, _, first), (other, place, second) in _pairs_by_address(places):
        if realm == other and first.overlaps(second):
            yield f"{place}: {second} overlaps {first}; prefixes of a realm do not"


def _advertise_problems(place: str, advertise: Advertise) -> Iterator[str]:
    for nth, route in enumerate(advertise.routes):
        destination = route.destination
        if destination.family != 6 or is_link_local(destination.network) or destination.network[0] == _MULTICAST:
            yield f"{place}.routes[{nth}].destination: {destination}: expected an IPv6 prefix that can be routed"
        if any(destination == each.destination for each in advertise.routes[:nth]):
            yield f"{place}.routes[{nth}].destination: {destination} stands here twice"
    for nth, prefix in enumerate(advertise.nat64):
        if prefix.family != 6 or prefix.length not in _NAT64_LENGTHS:
            lengths = ", ".join(f"/{length}" for length in _NAT64_LENGTHS)
            yield f"{place}.nat64[{nth}]: {prefix}: expected an IPv6 prefix of {lengths} (RFC 8781)"


def _gateway_problems(place: str, subnet: Subnet, gateways: tuple[bytes, ...]) -> Iterator[str]:
    for nth, gateway in enumerate(gateways):
        if not is_link_local(gateway) and not any(gateway in prefix for prefix in subnet.prefixes):
            yield (
                f"{place}.gateways[{nth}]: {format_address(gateway)} is not on the link; "
                "expected an address in one of the subnet's prefixes, or a link-local one"
            )


def _pairs_by_address(
    places: list[tuple[str, str, Prefix]],
) -> Iterator[tuple[tuple[str, str, Prefix], tuple[str, str, Prefix]]]:
    """Neighbours in the order of addresses: of overlapping prefixes one always covers the other's beginning."""
    ordered = sorted(places, key=lambda entry: (entry[0], entry[2].first, entry[2].length))
    covering: list[tuple[str, str, Prefix]] = []
    for entry in ordered:
        while covering and (covering[-1][0] != entry[0] or not covering[-1][2].overlaps(entry[2])):
            covering.pop()
        if covering:
            yield covering[-1], entry
        covering.append(entry)


def _is_of_whole_64s(pool: Pool) -> bool:
    return family(pool.first) == 6 and pool.first[8:] == bytes(8) and pool.last[8:] == b"\xff" * 8


def _pool_problems(request: ApplyPlan) -> Iterator[str]:
    subnets = {subnet.name: subnet for subnet in request.subnets}
    for index, pool in enumerate(request.pools):
        place = f"$.pool[{index}]"
        if pool.strategy not in STRATEGIES:
            yield f"{place}.strategy: there is no strategy {pool.strategy!r}; expected one of {sorted(STRATEGIES)}"
        if pool.preferred > pool.valid:
            yield f"{place}.preferred: {pool.preferred} s is longer than the valid lifetime of {pool.valid} s"
        if pool.first > pool.last or family(pool.first) != family(pool.last):
            yield f"{place}.range: expected the first address before the last, of one family"
            continue
        if pool.prefix_per_host and not _is_of_whole_64s(pool):
            yield f"{place}.range: where every host has a prefix of its own, expected an IPv6 range of whole /64s"
        elif family(pool.first) == 6 and pool.first[:8] != pool.last[:8] and not pool.prefix_per_host:
            yield f"{place}.range: an IPv6 pool of addresses lies within one /64; or set prefix_per_host"
        subnet = subnets.get(pool.subnet)
        if subnet is None:
            yield f"{place}.subnet: there is no subnet {pool.subnet!r}; expected one of {sorted(subnets)}"
        elif not (is_relative(pool) or any(pool.first in prefix and pool.last in prefix for prefix in subnet.prefixes)):
            yield (
                f"{place}.range: {format_address(pool.first)}-{format_address(pool.last)} is not inside a prefix "
                f"of subnet {subnet.name!r} ({', '.join(map(str, subnet.prefixes))})"
            )
    ordered = sorted(enumerate(request.pools), key=lambda entry: (entry[1].subnet, entry[1].first))
    for (_, one), (index, other) in pairwise(ordered):
        if one.subnet == other.subnet and other.first <= one.last:
            yield f"$.pool[{index}].range: overlaps the range of pool {one.name!r}"


def _reservation_problems(request: ApplyPlan) -> Iterator[str]:
    """A reserved address is one that a pool of its subnet gives, and is given to one client."""
    subnets = {subnet.name: subnet for subnet in request.subnets}
    seen: set[tuple[str, bytes]] = set()
    kept: Counter[tuple[str, bytes, str, int]] = Counter()
    hosts: dict[tuple[str, bytes], bytes] = {}  # by pool and client, where every host has a /64: the upper half of it
    for index, each in enumerate(request.reservations):
        place, text, subnet = f"$.reservation[{index}]", format_address(each.address), subnets.get(each.subnet)
        if subnet is None:
            yield f"{place}.subnet: there is no subnet {each.subnet!r}; expected one of {sorted(subnets)}"
            continue
        pool = next((p for p in request.pools if p.subnet == each.subnet and p.first <= each.address <= p.last), None)
        if pool is None:
            yield f"{place}.address: no pool of subnet {each.subnet!r} has {text}"
        elif (
            pool.prefix_per_host
            and (other := hosts.setdefault((pool.name, each.client), each.address[:8])) != (each.address[:8])
        ):
            block = Prefix(other + bytes(8), 64)
            yield f"{place}.address: {text} is not in {block}, where the plan has its host; all of a host is in one /64"
        elif is_reserved(each.address, subnet):
            yield f"{place}.address: nobody may be given {text}: it is a gateway, an end of a network, or RFC 5453's"
        if (each.subnet, each.address) in seen:
            yield f"{place}.address: {text} is reserved twice in subnet {each.subnet!r}"
        seen.add((each.subnet, each.address))
        whose = (each.subnet, each.client, each.interface, family(each.address))
        kept[whose] += 1
        if kept[whose] == MAX_HOLDS + 1:
            yield f"{place}: more than {MAX_HOLDS} IPv{whose[3]} addresses for one interface of a node"
