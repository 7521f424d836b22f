"""What a node has to change so that it has what it was assigned: wanted minus actual, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from dnms.events.configuration import AssignedAddress, Assignment, InterfaceAddress, Resolver, Route, Snapshot
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


class NodePlan(msgspec.Struct, frozen=True, kw_only=True):
    """The changes, to be applied in the order of the fields; removals only when what replaces them is usable."""

    add_addresses: tuple[AssignedAddress, ...] = ()  # those too whose lifetimes begin anew
    add_routes: tuple[WantedRoute, ...] = ()
    resolver: Resolver | None = None  # None: leave it
    mtu: int | None = None  # None: leave it
    remove_addresses: tuple[InterfaceAddress, ...] = ()
    remove_routes: tuple[Route, ...] = ()


def plan_node(
    snapshot: Snapshot, link_index: int, assignment: Assignment, *, keep: frozenset[Prefix] = frozenset()
) -> NodePlan:
    """The changes on one link. Addresses in `keep` stay; so do link-local ones, and what is on other links.

    Of a family of which nothing is assigned only what is ours goes: its pool may be empty or refuse, and a node that
    configured itself is not cut off for that.
    """
    wanted = {address.address for address in assignment.addresses}
    families = {family(address) for address in wanted}
    mtu = next((link.mtu for link in snapshot.links if link.index == link_index), 0)
    routes = tuple(_routes(link_index, assignment))
    return NodePlan(
        add_addresses=assignment.addresses,
        add_routes=routes,
        resolver=assignment.resolver if assignment.resolver not in (snapshot.resolver, Resolver()) else None,
        mtu=assignment.mtu if assignment.mtu not in (0, mtu) else None,
        remove_addresses=tuple(
            held
            for held in snapshot.addresses
            if held.interface == link_index
            and (family(held.address) in families or held.origin == "managed")
            and held.address not in wanted
            and not is_link_local(held.address)
            and not any(held.address in prefix for prefix in keep)
        ),
        remove_routes=tuple(
            route
            for route in snapshot.routes
            if route.interface == link_index
            and (route.destination.family in families or route.protocol == PROTOCOL)
            and _is_stray(route, routes, keep)
        ),
    )


def _routes(interface: int, assignment: Assignment) -> Iterator[WantedRoute]:
    families = {family(address.address) for address in assignment.addresses}
    on_link = {prefix_of(address.address, address.prefix_length) for address in assignment.addresses}
    yield from (WantedRoute(prefix, interface) for prefix in sorted(on_link))
    preference = {4: 0, 6: 0}
    for gateway in assignment.gateways:
        kind = family(gateway)
        if kind in families:
            destination = DEFAULT4 if kind == 4 else DEFAULT6
            yield WantedRoute(destination, interface, gateway, METRIC + preference[kind])
            preference[kind] += 1
    for route in assignment.routes:
        if route.destination.family in families:
            yield WantedRoute(route.destination, interface, route.gateway, route.metric or METRIC)


def _is_stray(route: Route, wanted: tuple[WantedRoute, ...], keep: frozenset[Prefix]) -> bool:
    """Ours that are no longer wanted, those of Router Advertisements, and the kernel's for addresses that go."""
    network, length = route.destination.network, route.destination.length
    if network[0] == 0xFF or (length >= 10 and is_link_local(network)):
        return False  # multicast and fe80::/64 carry discovery and every session
    if WantedRoute(route.destination, route.interface, route.gateway, route.metric) in wanted:
        return route.protocol != PROTOCOL
    if route.destination not in (DEFAULT4, DEFAULT6) and any(route.destination.covers(prefix) for prefix in keep):
        return False
    return route.protocol in (PROTOCOL, KERNEL, RA, DHCP)
