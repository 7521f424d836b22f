"""What a node has to change so that it has what it was assigned: wanted minus actual, and nothing else.

What is ours and no longer wanted goes at once: another node may get it. What others have set is left first: deprecated,
so that nothing new begins with it, and removed when the change is proven and no socket uses it any more. So who is
logged in over an address that goes sees the take-over through.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from dnms.domain.node_settings import RA_GATEWAY, settings_of
from dnms.events.configuration import AssignedAddress, Assignment, InterfaceAddress, Policy, Resolver, Route, Snapshot
from dnms.events.ip import MAPPED, Prefix, family, is_link_local, prefix_of

PROTOCOL = 200
"""The protocol number of our addresses and routes in the kernel: what carries it is ours."""

KERNEL, RA, DHCP = 2, 9, 16
"""Linux's RTPROT_* of routes that come with addresses, Router Advertisements and DHCP clients. People's own (3 and 4)
and routing daemons' stay."""

METRIC = 512
"""Of our default and on-link routes: better than the kernel's for a Router Advertisement (1024), worse than an
operator's own (0)."""

DEFAULT6 = Prefix(bytes(16), 0)
DEFAULT4 = Prefix(MAPPED + bytes(4), 96)


class WantedRoute(msgspec.Struct, frozen=True):
    """A route that the node is to have. Without a gateway its destination is on the link."""

    destination: Prefix
    interface: int
    gateway: bytes | None = None
    metric: int = METRIC
    source: bytes | None = (
        None  # IPv4 only: its kernel does not heed that an address is deprecated (RFC 6724 is IPv6's)
    )


class NodePlan(msgspec.Struct, frozen=True, kw_only=True):
    """The changes, to be applied in the order of the fields; removals only when what replaces them is usable."""

    settings: dict[str, str] = {}  # all that are wanted, below /proc/sys
    mtu: int | None = None  # None: leave it
    add_addresses: tuple[AssignedAddress, ...] = ()  # those too whose lifetimes begin anew
    add_routes: tuple[WantedRoute, ...] = ()
    deprecate: tuple[InterfaceAddress, ...] = ()  # of others, whether kept or left
    remove_addresses: tuple[InterfaceAddress, ...] = ()
    remove_routes: tuple[Route, ...] = ()
    resolver: Resolver | None = None  # None: leave it
    ntp: tuple[bytes, ...] = ()  # all that are wanted; of a node's time servers DNMS knows only its own
    leave_addresses: tuple[InterfaceAddress, ...] = ()  # until the change is proven and no socket uses them
    leave_routes: tuple[Route, ...] = ()  # until the change is proven
    optimistic: bool = False  # IPv6 addresses are used while DAD goes on


def plan_node(snapshot: Snapshot, link_index: int, assignment: Assignment) -> NodePlan:
    """The changes on one link, by the assignment's policy.

    Addresses that the policy keeps stay, deprecated; so do link-local ones, and what is on other links. Of a family of
    which nothing is assigned only what is ours goes: its pool may be empty or refuse, and a node that configured itself
    is not cut off for that. Where the policy is only to observe, nothing is changed.
    """
    policy = assignment.policy
    if policy.mode == "observe":
        return NodePlan()
    wanted = {address.address for address in assignment.addresses}
    families = {family(address) for address in wanted}
    link = next((link for link in snapshot.links if link.index == link_index), None)
    routes = tuple(_routes(link_index, assignment))
    others = [
        held
        for held in snapshot.addresses
        if held.interface == link_index
        and held.origin != "managed"
        and family(held.address) in families
        and held.address not in wanted
        and not is_link_local(held.address)
    ]
    strays = [
        route
        for route in snapshot.routes
        if route.interface == link_index and _is_stray(route, routes, snapshot, policy)
    ]
    return NodePlan(
        settings=settings_of(link.name, families, policy.mode, snapshot.sysctls, optimistic=policy.optimistic)
        if link is not None
        else {},
        mtu=assignment.mtu if assignment.mtu not in (0, link.mtu if link is not None else 0) else None,
        add_addresses=_with_one_preferred(assignment.addresses),
        add_routes=routes,
        deprecate=tuple(held for held in others if held.preferred != 0),
        remove_addresses=tuple(
            held
            for held in snapshot.addresses
            if held.interface == link_index and held.origin == "managed" and held.address not in wanted
        ),
        remove_routes=tuple(route for route in strays if route.protocol == PROTOCOL),
        resolver=None
        if assignment.resolver == Resolver() or _said(assignment.resolver) == _said(snapshot.resolver)
        else assignment.resolver,
        ntp=assignment.ntp,
        leave_addresses=tuple(held for held in others if not is_kept(held.address, policy)),
        leave_routes=tuple(
            route for route in strays if route.protocol != PROTOCOL and route.destination.family in families
        ),
        optimistic=policy.optimistic,
    )


def _said(resolver: Resolver) -> Resolver:
    """As every program says it: each once, and no domain with the root's dot."""
    search = (domain.rstrip(".") for domain in resolver.search)
    return Resolver(servers=tuple(dict.fromkeys(resolver.servers)), search=tuple(dict.fromkeys(search)))


def is_kept(address: bytes, policy: Policy) -> bool:
    """Whether the policy keeps an address that DNMS does not give."""
    return any(address in prefix for prefix in policy.keep)


def main_of(addresses: tuple[AssignedAddress, ...], kind: int) -> bytes | None:
    """The address of a family that new connections come from: the first that is not to be drained."""
    of_it = [each for each in addresses if family(each.address) == kind]
    return next((each.address for each in of_it if each.preferred), of_it[0].address if of_it else None)


def _with_one_preferred(addresses: tuple[AssignedAddress, ...]) -> tuple[AssignedAddress, ...]:
    """Of each family the first that is not to be drained stays preferred, so that its source is the node's (RFC 6724,
    5, rule 3).
    """
    main = {main_of(addresses, 4), main_of(addresses, 6)}
    return tuple(
        each if each.address in main or not each.preferred else msgspec.structs.replace(each, preferred=0)
        for each in addresses
    )


def _routes(interface: int, assignment: Assignment) -> Iterator[WantedRoute]:
    addresses = assignment.addresses
    families = {family(address.address) for address in addresses}
    source = main_of(addresses, 4)
    on_link = {prefix_of(address.address, address.prefix_length) for address in addresses}
    for prefix in sorted(on_link):
        there = [each for each in addresses if each.address in prefix and family(each.address) == 4]
        yield WantedRoute(prefix, interface, source=main_of(tuple(there), 4))
    preference = {4: 0, 6: 0}
    for gateway in assignment.gateways:
        kind = family(gateway)
        if kind in families and not (kind == 6 and assignment.policy.mode == RA_GATEWAY):
            destination = DEFAULT4 if kind == 4 else DEFAULT6
            source_of_it = source if kind == 4 else None
            yield WantedRoute(destination, interface, gateway, METRIC + preference[kind], source_of_it)
            preference[kind] += 1
    for route in assignment.routes:
        if route.destination.family in families:
            source_of_it = source if route.destination.family == 4 else None
            yield WantedRoute(route.destination, interface, route.gateway, route.metric or METRIC, source_of_it)


def _is_stray(route: Route, wanted: tuple[WantedRoute, ...], snapshot: Snapshot, policy: Policy) -> bool:
    """Ours that are no longer wanted, those of Router Advertisements, and the kernel's for addresses that go."""
    destination = route.destination
    if destination.network[0] == 0xFF or (destination.length >= 10 and is_link_local(destination.network)):
        return False  # multicast and fe80::/64 carry discovery and every session
    if any(_is_it(route, each) for each in wanted):
        return route.protocol != PROTOCOL
    if destination not in (DEFAULT4, DEFAULT6) and any(destination.covers(prefix) for prefix in policy.keep):
        return False
    if policy.mode == RA_GATEWAY and destination.family == 6:
        # What comes by advertisements stays; and a gateway of ours until there is one of theirs.
        if destination == DEFAULT6:
            return route.protocol == PROTOCOL and _is_advertised(snapshot, route.interface)
        return route.protocol == PROTOCOL
    return route.protocol in (PROTOCOL, KERNEL, RA, DHCP)


def _is_it(route: Route, wanted: WantedRoute) -> bool:
    return (route.destination, route.interface, route.gateway, route.metric) == (
        wanted.destination,
        wanted.interface,
        wanted.gateway,
        wanted.metric,
    )


def _is_advertised(snapshot: Snapshot, interface: int) -> bool:
    """Whether a Router Advertisement has brought a default route."""
    return any(
        each.destination == DEFAULT6 and each.protocol == RA and each.interface == interface for each in snapshot.routes
    )
