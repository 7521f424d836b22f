"""What would be done to a node, before it is done: its plan in the words of people, and what stays."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from dnms.domain.node_plan import DEFAULT4, DEFAULT6, NodePlan, WantedRoute, is_kept, plan_node
from dnms.domain.node_settings import unset
from dnms.events.configuration import Assignment, InterfaceAddress, Resolver, Route, Snapshot
from dnms.events.ip import format_address, is_link_local, prefix_of


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that would be done, or left."""

    change: str  # set, add, keep, deprecate, remove, remove-later, stay
    kind: str  # setting, mtu, address, route, resolver
    what: str
    why: str = ""


def steps(snapshot: Snapshot, link_index: int, assignment: Assignment) -> tuple[Step, ...]:
    """In the order in which they would be done; then what stays as it is on the link."""
    if assignment.policy.mode == "observe":
        return (Step(change="stay", kind="link", what="all of it", why="the policy only observes"),)
    plan = plan_node(snapshot, link_index, assignment)
    return (*_done(snapshot, link_index, plan, assignment), *_left(snapshot, link_index, plan, assignment))


def _done(snapshot: Snapshot, link: int, plan: NodePlan, assignment: Assignment) -> Iterator[Step]:
    for name, (value, now) in unset(plan.settings, snapshot.sysctls).items():
        yield Step(change="set", kind="setting", what=f"{name} = {value}", why=f"it is {now}")
    if plan.mtu is not None:
        yield Step(change="set", kind="mtu", what=str(plan.mtu))
    there = {each.address for each in snapshot.addresses if each.interface == link}
    for each in plan.add_addresses:
        change = "keep" if each.address in there else "add"
        why = "" if each.preferred else "no source of what begins: another one is"
        yield Step(change=change, kind="address", what=_text(each.address, each.prefix_length), why=why)
    routes = {(each.destination, each.gateway, each.metric) for each in snapshot.routes if each.interface == link}
    for route in plan.add_routes:
        change = "keep" if (route.destination, route.gateway, route.metric) in routes else "add"
        yield Step(change=change, kind="route", what=_route(route))
    for stray in plan.deprecate:
        why = f"{stray.origin}: nothing new begins with it"
        yield Step(change="deprecate", kind="address", what=_held(stray), why=why)
    for held in plan.remove_addresses:
        yield Step(change="remove", kind="address", what=_held(held), why="it is not given any more")
    for old in plan.remove_routes:
        yield Step(change="remove", kind="route", what=_route(old), why="it is not given any more")
    if plan.resolver is not None:
        why = f"it is {_resolver(snapshot.resolver)}"
        yield Step(change="set", kind="resolver", what=_resolver(plan.resolver), why=why)
    drain = f"when it is proven, and no socket uses it or {assignment.policy.drain} s are over"
    for stray in plan.leave_addresses:
        yield Step(change="remove-later", kind="address", what=_held(stray), why=drain)
    for old in plan.leave_routes:
        yield Step(change="remove-later", kind="route", what=_route(old), why="when it is proven")


def _left(snapshot: Snapshot, link: int, plan: NodePlan, assignment: Assignment) -> Iterator[Step]:
    changed = {(each.address, each.prefix_length) for each in (*plan.remove_addresses, *plan.leave_addresses)}
    changed |= {(each.address, each.prefix_length) for each in plan.add_addresses}
    for each in snapshot.addresses:
        if each.interface == link and (each.address, each.prefix_length) not in changed:
            why = "nothing of its family is given"
            if is_link_local(each.address):
                why = "link-local: discovery and sessions are over it"
            elif is_kept(each.address, assignment.policy):
                why = "the policy keeps it"
            yield Step(change="stay", kind="address", what=_held(each), why=why)


def _held(each: InterfaceAddress) -> str:
    return _text(each.address, each.prefix_length)


def _text(address: bytes, length: int) -> str:
    return f"{format_address(address)}/{str(prefix_of(address, length)).rpartition('/')[2]}"


def _route(route: Route | WantedRoute) -> str:
    destination = "default" if route.destination in (DEFAULT4, DEFAULT6) else str(route.destination)
    via = "" if route.gateway is None else f" via {format_address(route.gateway)}"
    return f"{destination}{via} metric {route.metric}"


def _resolver(resolver: Resolver) -> str:
    return ", ".join((*map(format_address, resolver.servers), *resolver.search)) or "none"
