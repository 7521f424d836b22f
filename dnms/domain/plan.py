"""The plan: what operators want, as a fold of subject `plan`, and the decision whether a new one may be."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, MutableMapping, Set
from typing import TypeVar

import msgspec

from dnms.domain import plan_delegation, plan_problems, rule_table
from dnms.domain.aggregate import Refused
from dnms.domain.document import LEVEL
from dnms.domain.reserved import RESERVED_GROUPS
from dnms.events.commit import MAX_EVENTS
from dnms.events.plan import (
    AdoptedPlan,
    Delegation,
    DelegationDefined,
    DelegationWithdrawn,
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
    Uplink,
    UplinkDefined,
    UplinkWithdrawn,
)
from dnms.events.recorded import Event, Request
from dnms.events.requests import ApplyPlan
from dnms.events.rule import Rule, RuleDefined, RuleWithdrawn
from dnms.kit.overlay import Overlay

_Defined = RealmDefined | GroupDefined | SubnetDefined | PoolDefined | UplinkDefined | DelegationDefined | RuleDefined
_Withdrawn = (
    RealmWithdrawn
    | GroupWithdrawn
    | SubnetWithdrawn
    | PoolWithdrawn
    | UplinkWithdrawn
    | DelegationWithdrawn
    | RuleWithdrawn
)
"""By the first word of their names: a field of each that is defined, and with an `s` the mapping that has all."""

Named = TypeVar("Named", Realm, Group, Subnet, Pool, Uplink, Delegation, Rule)


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
        self.uplinks: MutableMapping[str, Uplink] = {}
        self.delegations: MutableMapping[str, Delegation] = {}
        self.rules: MutableMapping[str, Rule] = {}

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
        draft.uplinks, draft.delegations = Overlay(self.uplinks), Overlay(self.delegations)
        draft.rules = Overlay(self.rules)
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
        events += [RuleWithdrawn(name=name) for name in _gone(self.rules, request.rules)]
        events += [DelegationWithdrawn(name=name) for name in _gone(self.delegations, request.delegations)]
        events += [PoolWithdrawn(name=name) for name in _gone(self.pools, request.pools)]
        events += [SubnetWithdrawn(name=name) for name in _gone(self.subnets, request.subnets)]
        events += [UplinkWithdrawn(name=name) for name in _gone(self.uplinks, request.uplinks)]
        events += [GroupWithdrawn(name=name) for name in _gone(self.groups, groups)]
        events += [RealmWithdrawn(name=name) for name in _gone(self.realms, request.realms)]
        events += [RealmDefined(realm=realm) for realm in _new(self.realms, request.realms)]
        events += [GroupDefined(group=group) for group in _new(self.groups, groups)]
        events += [UplinkDefined(uplink=uplink) for uplink in _new(self.uplinks, request.uplinks)]
        events += [SubnetDefined(subnet=subnet) for subnet in _new(self.subnets, request.subnets)]
        events += [PoolDefined(pool=pool) for pool in _new(self.pools, request.pools)]
        events += [DelegationDefined(delegation=each) for each in _new(self.delegations, request.delegations)]
        events += [RuleDefined(rule=rule) for rule in _new(self.rules, request.rules)]
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
            case ReservationDefined(reservation=reservation):
                self.reservations[reservation.subnet, reservation.address] = reservation
            case ReservationWithdrawn():
                del self.reservations[event.subnet, event.address]
            case _ if isinstance(event, _Defined):
                defined = getattr(event, _part(event))
                getattr(self, f"{_part(event)}s")[defined.name] = defined
            case _ if isinstance(event, _Withdrawn):
                del getattr(self, f"{_part(event)}s")[event.name]

    def load(self, document: ApplyPlan, position: int) -> None:
        """Take what `document` gave at this position, instead of folding what led to it."""
        self.site, self.level, self.strict, self.position = document.site, document.level, document.strict, position
        self.realms = {each.name: each for each in document.realms}
        self.groups = {each.name: each for each in document.groups}
        self.subnets = {each.name: each for each in document.subnets}
        self.pools = {each.name: each for each in document.pools}
        self.reservations = {(each.subnet, each.address): each for each in document.reservations}
        self.uplinks = {each.name: each for each in document.uplinks}
        self.delegations = {each.name: each for each in document.delegations}
        self.rules = {each.name: each for each in document.rules}

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
            uplinks=tuple(self.uplinks.values()),
            delegations=tuple(self.delegations.values()),
            rules=tuple(self.rules.values()),
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
            uplink=None if subnet is None else self.uplinks.get(subnet.downlink.uplink),
            delegations=tuple(each for each in self.delegations.values() if each.subnet == name),
        )

    def _problems(self, request: ApplyPlan) -> Iterator[str]:
        named = self.site or self._named
        if named and request.site != named:
            yield f"$.site.name: the site is {named!r}; a plan cannot rename it to {request.site!r}"
        if not self.level <= request.level <= LEVEL:
            yield f"$.site.level: expected {self.level or 1} to {LEVEL}, which this release knows"
        for table in ("realm", "group", "subnet", "pool", "uplink", "delegation", "rule"):
            names: set[str] = set()
            for index, entry in enumerate(getattr(request, f"{table}s")):
                if entry.name in names:
                    yield f"$.{table}[{index}].name: {entry.name!r} stands here twice; names are unique"
                names.add(entry.name)
        yield from plan_problems.problems(request)
        yield from plan_delegation.problems(request)
        yield from rule_table.problems(request)

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


def _part(event: Event) -> str:
    return event.NAME.partition(".")[0]


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
