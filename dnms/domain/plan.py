"""The plan: what operators want, as a fold of subject `plan`, and the decision whether a new one may be."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, MutableMapping, Set
from itertools import pairwise
from typing import TypeVar

import msgspec

from dnms.domain.aggregate import Refused
from dnms.domain.document import LEVEL
from dnms.domain.holding import MAX_HOLDS
from dnms.domain.ranges import is_whole_64
from dnms.domain.reserved import RESERVED_GROUPS, is_reserved
from dnms.domain.strategies import STRATEGIES
from dnms.events.commit import MAX_EVENTS
from dnms.events.ip import Prefix, family, format_address, is_link_local
from dnms.events.plan import (
    AdoptedPlan,
    Group,
    GroupDefined,
    GroupWithdrawn,
    Pool,
    PoolDefined,
    PoolWithdrawn,
    Realm,
    RealmDefined,
    RealmWithdrawn,
    Reservation,
    ReservationDefined,
    ReservationWithdrawn,
    SiteDefined,
    Stateless,
    Subnet,
    SubnetDefined,
    SubnetWithdrawn,
)
from dnms.events.recorded import Event, Request
from dnms.events.requests import ApplyPlan
from dnms.kit.overlay import Overlay

Named = TypeVar("Named", Realm, Group, Subnet, Pool)


class PlanState:
    """The plan of a site. Implements `aggregate.State`."""

    def __init__(self, named: str = "") -> None:
        """`named`: what the site's directory calls it, where that is known; a first plan must agree."""
        self._named = named
        self.site = ""
        self.level = 0
        self.strict = False  # every subnet is, whatever it says itself
        self.position = 0  # sequence of the newest commit in it
        self._drafted = False  # there are changes in it that have no position yet
        self.realms: MutableMapping[str, Realm] = {}
        self.groups: MutableMapping[str, Group] = {}
        self.subnets: MutableMapping[str, Subnet] = {}
        self.pools: MutableMapping[str, Pool] = {}
        self.reservations: MutableMapping[tuple[str, bytes], Reservation] = {}  # by subnet and address

    @property
    def plan_position(self) -> int:
        """Position of the plan that is changed."""
        return self.position

    def draft(self) -> PlanState:
        """A copy that may be thrown away."""
        draft = PlanState(self._named)
        draft.site, draft.level, draft.strict, draft.position = self.site, self.level, self.strict, self.position
        draft._drafted = self._drafted
        draft.realms, draft.groups = Overlay(self.realms), Overlay(self.groups)
        draft.subnets, draft.pools = Overlay(self.subnets), Overlay(self.pools)
        draft.reservations = Overlay(self.reservations)
        return draft

    def entropy(self, request: Request) -> int:
        """All that it is given."""
        return request.ENTROPY

    def decide(self, request: Request, *, at: int, entropy: bytes) -> tuple[Event, ...]:
        """The difference between the plan and the one asked for.

        Refused `plan-changed`; `invalid-plan`, with every problem.
        """
        if not isinstance(request, ApplyPlan):
            raise Refused("not-for-plan", f"the plan does not decide {request.NAME}")
        if request.based_on is not None and (self._drafted or request.based_on != self.position):
            now = "is being changed" if self._drafted else f"is at position {self.position}"
            raise Refused(
                "plan-changed", f"the plan {now}, and not at {request.based_on} any more; compare with it again"
            )
        if problems := tuple(self._problems(request)):
            raise Refused("invalid-plan", "\n".join(problems))
        groups = self._numbered(request.groups, entropy)
        events: list[Event] = []
        if (self.site, self.level, self.strict) != (request.site, request.level, request.strict):
            events.append(SiteDefined(name=request.site, level=request.level, strict=request.strict))
        # What is withdrawn goes from the leaves to the root, what is defined from the root to the leaves.
        reserved = {(each.subnet, each.address): each for each in request.reservations}
        events += [
            ReservationWithdrawn(subnet=subnet, address=address)
            for subnet, address in self.reservations
            if (subnet, address) not in reserved
        ]
        events += [PoolWithdrawn(name=name) for name in _gone(self.pools, request.pools)]
        events += [SubnetWithdrawn(name=name) for name in _gone(self.subnets, request.subnets)]
        events += [GroupWithdrawn(name=name) for name in _gone(self.groups, groups)]
        events += [RealmWithdrawn(name=name) for name in _gone(self.realms, request.realms)]
        events += [RealmDefined(realm=realm) for realm in _new(self.realms, request.realms)]
        events += [GroupDefined(group=group) for group in _new(self.groups, groups)]
        events += [SubnetDefined(subnet=subnet) for subnet in _new(self.subnets, request.subnets)]
        events += [PoolDefined(pool=pool) for pool in _new(self.pools, request.pools)]
        events += [
            ReservationDefined(reservation=each) for key, each in reserved.items() if self.reservations.get(key) != each
        ]
        if len(events) > MAX_EVENTS:
            raise Refused("invalid-plan", f"$: {len(events)} changes at once; apply at most {MAX_EVENTS} at a time")
        return tuple(events)

    def evolve(self, event: Event, *, at: int, position: int) -> None:
        """Take in one event."""
        self.position = max(self.position, position)
        self._drafted = self._drafted or not position
        match event:
            case SiteDefined():
                self.site, self.level, self.strict = event.name, event.level, event.strict
            case RealmDefined(realm=realm):
                self.realms[realm.name] = realm
            case GroupDefined(group=group):
                self.groups[group.name] = group
            case SubnetDefined(subnet=subnet):
                self.subnets[subnet.name] = subnet
            case PoolDefined(pool=pool):
                self.pools[pool.name] = pool
            case ReservationDefined(reservation=reservation):
                self.reservations[reservation.subnet, reservation.address] = reservation
            case ReservationWithdrawn():
                del self.reservations[event.subnet, event.address]
            case RealmWithdrawn(name=name):
                del self.realms[name]
            case GroupWithdrawn(name=name):
                del self.groups[name]
            case SubnetWithdrawn(name=name):
                del self.subnets[name]
            case PoolWithdrawn(name=name):
                del self.pools[name]

    def load(self, document: ApplyPlan, position: int) -> None:
        """Take what `document` gave at this position, instead of folding what led to it."""
        self.site, self.level, self.strict, self.position = document.site, document.level, document.strict, position
        self.realms = {each.name: each for each in document.realms}
        self.groups = {each.name: each for each in document.groups}
        self.subnets = {each.name: each for each in document.subnets}
        self.pools = {each.name: each for each in document.pools}
        self.reservations = {(each.subnet, each.address): each for each in document.reservations}

    def document(self) -> ApplyPlan:
        """The request that would lead to this plan."""
        return ApplyPlan(
            site=self.site,
            level=self.level,
            realms=tuple(self.realms.values()),
            groups=tuple(self.groups.values()),
            subnets=tuple(self.subnets.values()),
            pools=tuple(self.pools.values()),
            reservations=tuple(self.reservations.values()),
            strict=self.strict,
        )

    def for_subnet(self, name: str) -> AdoptedPlan:
        """What the ledger of a subnet adopts. Without the names of nodes, which are personal."""
        subnet = self.subnets.get(name)
        if subnet is not None and self.strict:
            subnet = msgspec.structs.replace(subnet, strict=True)
        return AdoptedPlan(
            position=self.position,
            level=self.level,
            subnet=subnet,
            pools=tuple(pool for pool in self.pools.values() if pool.subnet == name),
            groups={group.name: group.number for group in self.groups.values()},
            ranges={group.name: group.ranges for group in self.groups.values() if group.ranges},
            stateless={group.name: group.stateless for group in self.groups.values() if group.stateless != Stateless()},
            reservations=tuple(each for each in self.reservations.values() if each.subnet == name),
        )

    def _problems(self, request: ApplyPlan) -> Iterator[str]:
        named = self.site or self._named
        if named and request.site != named:
            yield f"$.site.name: the site is {named!r}; a plan cannot rename it to {request.site!r}"
        if not self.level <= request.level <= LEVEL:
            yield f"$.site.level: expected {self.level or 1} to {LEVEL}, which this release knows"
        for table in ("realm", "group", "subnet", "pool"):
            names: set[str] = set()
            for index, entry in enumerate(getattr(request, f"{table}s")):
                if entry.name in names:
                    yield f"$.{table}[{index}].name: {entry.name!r} stands here twice; names are unique"
                names.add(entry.name)
        yield from _group_problems(request)
        yield from _subnet_problems(request)
        yield from _pool_problems(request)
        yield from _reservation_problems(request)

    def _numbered(self, groups: tuple[Group, ...], entropy: bytes) -> tuple[Group, ...]:
        """Every group with its number: the one that is set, else the one that it has, else one that is drawn."""
        taken = {group.number for group in groups} | {group.number for group in self.groups.values()}
        numbered = []
        for group in groups:
            number = group.number or (self.groups[group.name].number if group.name in self.groups else 0)
            if not number:
                number = _draw(group.name, taken | RESERVED_GROUPS, entropy)
            taken.add(number)
            numbered.append(msgspec.structs.replace(group, number=number))
        return tuple(numbered)


def says_the_same(one: AdoptedPlan, other: AdoptedPlan) -> bool:
    """Whether both say the same of a subnet; only a plan that touches it is adopted."""
    return msgspec.structs.replace(one, position=other.position) == other


def _draw(name: str, taken: Set[int], entropy: bytes) -> int:
    """A number that nobody has. An odd step visits all of them, and a plan has at most half as many groups."""
    digest = hashlib.blake2b(name.encode(), key=entropy, digest_size=4).digest()
    number, step = int.from_bytes(digest[:2]), int.from_bytes(digest[2:]) | 1
    while number in taken:
        number = (number + step) & 0xFFFF
    return number


def _gone(current: Mapping[str, Named], wanted: tuple[Named, ...]) -> list[str]:
    names = {entry.name for entry in wanted}
    return [name for name in current if name not in names]


def _new(current: Mapping[str, Named], wanted: tuple[Named, ...]) -> list[Named]:
    return [entry for entry in wanted if current.get(entry.name) != entry]


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
        for nth, (name, told) in enumerate(subnet.groups.items()):
            place = f"$.subnet[{index}].group[{nth}]"
            if name not in groups:
                yield f"{place}.name: there is no group {name!r}; expected one of {sorted(groups)}"
            yield from _gateway_problems(place, subnet, told.gateways or ())
    for (realm, _, first), (other, place, second) in _pairs_by_address(places):
        if realm == other and first.overlaps(second):
            yield f"{place}: {second} overlaps {first}; prefixes of a realm do not"


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
        elif not any(pool.first in prefix and pool.last in prefix for prefix in subnet.prefixes):
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
