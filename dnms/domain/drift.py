"""What somebody else changed of what a node was assigned, and when to put it back.

Two managers of one interface could go on for ever. So what is put back and changed again RESTORES times in WITHIN
seconds is given up for HOLD seconds, or until something else is assigned; other things are still put back.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from dnms.domain.node_plan import RA, NodePlan, WantedRoute, plan_node
from dnms.domain.node_settings import unset
from dnms.events.configuration import Assignment, InterfaceAddress, Link, Policy, Resolver, Snapshot
from dnms.events.ip import format_address, prefix_of
from dnms.events.seen import DriftItem

RESTORES: Final = 5
WITHIN: Final = 120.0  # seconds
HOLD: Final = 900.0  # seconds

LEFT, REPORTED, RESTORED, CONTESTED = "left", "reported", "restored", "contested"
"""What is done about it."""


def drift(snapshot: Snapshot, link_index: int, wanted: Assignment, *, draining: bool = False) -> tuple[DriftItem, ...]:
    """What is otherwise on the link than it is wanted. `draining`: what others had set stays there for its sockets."""
    link = next((link for link in snapshot.links if link.index == link_index), None)
    return () if link is None else tuple(_items(snapshot, link, wanted, draining=draining))


def is_untidy(snapshot: Snapshot, link_index: int, wanted: Assignment) -> bool:
    """Whether something of ours is not wanted any more, though nobody else changed anything."""
    return bool(plan_node(snapshot, link_index, wanted).remove_routes)


def _items(snapshot: Snapshot, link: Link, wanted: Assignment, *, draining: bool) -> Iterator[DriftItem]:
    plan = plan_node(snapshot, link.index, wanted)
    yield from _addresses(snapshot, link, plan, draining=draining)
    there = {
        (each.destination, each.gateway, each.metric)
        for each in snapshot.routes
        if each.interface == link.index and each.protocol not in (RA,)
    }
    for route in plan.add_routes:
        if (route.destination, route.gateway, route.metric) not in there:
            yield DriftItem(kind="route", name=_route(route), change="removed")
    for each in plan.leave_routes:
        if each.protocol == RA:
            name = _route(WantedRoute(each.destination, link.index, each.gateway, each.metric))
            yield DriftItem(kind="route", name=name, change="added", now="router advertisement")
    for name, (value, now) in unset(plan.settings, snapshot.sysctls).items():
        yield DriftItem(kind="sysctl", name=name, change="changed", was=value, now=now)
    if plan.mtu is not None:
        yield DriftItem(kind="mtu", change="changed", was=str(plan.mtu), now=str(link.mtu))
    if plan.resolver is not None:
        was, now = _resolver(plan.resolver), _resolver(snapshot.resolver)
        yield DriftItem(kind="resolver", change="changed", was=was, now=now)


def _addresses(snapshot: Snapshot, link: Link, plan: NodePlan, *, draining: bool) -> Iterator[DriftItem]:
    held = {(each.address, each.prefix_length): each for each in snapshot.addresses if each.interface == link.index}
    for wanted in plan.add_addresses:
        now = held.get((wanted.address, wanted.prefix_length))
        if now is None:
            yield DriftItem(kind="address", name=_text(wanted.address, wanted.prefix_length), change="removed")
        elif now.preferred == 0 and wanted.preferred:
            name = _text(wanted.address, wanted.prefix_length)
            yield DriftItem(kind="address", name=name, change="changed", was="preferred", now="deprecated")
    strays: Sequence[InterfaceAddress] = plan.deprecate if draining else (*plan.deprecate, *plan.leave_addresses)
    for each in dict.fromkeys(strays):
        name = _text(each.address, each.prefix_length)
        yield DriftItem(kind="address", name=name, change="added", now=each.origin)


class Contest:
    """How often each thing was put back."""

    def __init__(self) -> None:
        self._restored: dict[tuple[str, str, str], list[float]] = {}  # instants
        self._held: dict[tuple[str, str, str], float] = {}  # until when it is given up
        self._told: frozenset[tuple[str, str, str]] = frozenset()  # what was reported last

    def begin_anew(self) -> None:
        """Something else is assigned."""
        self._restored, self._held, self._told = {}, {}, frozenset()

    def sound(self) -> None:
        """All is as it is wanted."""
        self._told = frozenset()

    def act(self, items: Iterable[DriftItem], policy: Policy, now: float) -> tuple[str, tuple[DriftItem, ...]]:
        """What to do, and about which of them; LEFT: nothing, and nothing is told."""
        items = tuple(items)
        if policy.drift == "leave":
            return LEFT, ()
        if policy.drift == "report":
            keys = frozenset(map(_key, items))
            new = tuple(item for item in items if _key(item) not in self._told)
            self._told = keys
            return (REPORTED, new) if new else (LEFT, ())
        open_ = tuple(item for item in items if self._held.get(_key(item), 0.0) <= now)
        lost = tuple(item for item in open_ if self._is_lost(_key(item), now))
        if lost:
            self._held |= {_key(item): now + HOLD for item in lost}
            for item in lost:
                self._restored.pop(_key(item), None)
            return CONTESTED, lost
        for item in open_:
            self._restored.setdefault(_key(item), []).append(now)
        return (RESTORED, open_) if open_ else (LEFT, ())

    def _is_lost(self, key: tuple[str, str, str], now: float) -> bool:
        recent = [at for at in self._restored.get(key, ()) if at > now - WITHIN]
        self._restored[key] = recent
        return len(recent) >= RESTORES


def _key(item: DriftItem) -> tuple[str, str, str]:
    """Whoever adds ever other addresses is one contest, and not one for each."""
    return item.kind, "" if item.change == "added" else item.name, item.change


def _text(address: bytes, length: int) -> str:
    prefix = str(prefix_of(address, length)).rpartition("/")[2]
    return f"{format_address(address)}/{prefix}"


def _route(route: WantedRoute) -> str:
    via = "" if route.gateway is None else f" via {format_address(route.gateway)}"
    return f"{route.destination}{via} metric {route.metric}"


def _resolver(resolver: Resolver) -> str:
    return ", ".join((*map(format_address, resolver.servers), *resolver.search))
