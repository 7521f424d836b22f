"""Which routes a router needs by what the ledgers of its links say, and by which commit each of them is wanted.

An agent that answers a delegate and the subscriber that keeps the kernel as the log says want the same ones.
"""

from __future__ import annotations

from collections.abc import Sequence, Set

import msgspec

from dnms.events.ip import Prefix, format_address
from dnms.events.plan import AdoptedPlan, PlanAdopted
from dnms.events.prefix import (
    PrefixDelegated,
    PrefixDeprecated,
    PrefixExpired,
    PrefixReleased,
    PrefixRenewed,
    PrefixWithdrawn,
)
from dnms.events.recorded import Event
from dnms.events.uplink import UplinkDeprecated, UplinkLost, UplinkReceived

METRIC = 1_025
"""Of a route that leads somewhere. One more than what the kernel takes where nobody says any (1 024): an operator's
own route to the same destination wins, and is not in the way of ours, which would need its place."""

UNREACHABLE_METRIC = 4_096
"""Of what is refused where no more specific route is. Whoever has another route to all of it has the better one."""


UNKNOWN = bytes(16)
"""A next hop that nobody has said yet."""


class Route(msgspec.Struct, frozen=True, order=True):
    """An IPv6 route of table main. Two are the same route where nothing has to be done to make one of the other."""

    destination: Prefix
    metric: int
    interface: str = ""  # its name; empty: unreachable
    next_hop: bytes = b""  # on the interface's link; empty: the destination is on the link itself

    @property
    def place(self) -> tuple[Prefix, int]:
        """Of all routes of a table one at most has this."""
        return self.destination, self.metric

    def __str__(self) -> str:
        """As `ip route` has it."""
        if not self.interface:
            return f"unreachable {self.destination} metric {self.metric}"
        via = f" via {format_address(self.next_hop)}" if self.next_hop else ""
        return f"{self.destination}{via} dev {self.interface} metric {self.metric}"


def delegated(prefix: Prefix, next_hop: bytes, interface: str) -> Route:
    """To what a delegate has."""
    return Route(prefix, METRIC, interface, next_hop)


def on_link(prefix: Prefix, interface: str) -> Route:
    """To what the hosts of a link have."""
    return Route(prefix, METRIC, interface)


def unreachable(prefix: Prefix) -> Route:
    """What is not used of a prefix goes nowhere, and above all not back to where the prefix came from (RFC 7084, 4.3,
    WPD-5).
    """
    return Route(prefix, UNREACHABLE_METRIC)


class LinkRoutes:
    """The fold of one ledger to the routes that the router of its link needs.

    Those to delegates, of which there are thousands, are kept as they are; the few others are made when asked for.
    """

    def __init__(self, interface: str) -> None:
        """`interface`: the router's on the link."""
        self._interface = interface
        self._delegated: dict[Prefix, tuple[Route, int]] = {}  # with the commit that said so
        self._routes: set[Route] = set()  # of these
        self._uplinks: dict[tuple[str, Prefix], int] = {}  # by uplink: prefixes that are not lost
        self._on_link: dict[Prefix, int] = {}  # the link's own by an adopted plan, this one or an earlier
        self._now: frozenset[Prefix] = frozenset()  # by this one
        self._pools: dict[Prefix, int] = {}  # delegated from, without an uplink

    @property
    def delegated(self) -> Set[Prefix]:
        """What is delegated now."""
        return self._delegated.keys()

    def evolve(self, event: Event, position: int) -> bool:
        """Take an event in, of the commit at this position; whether it is one that says which routes there are to be.

        That it is, whether they are other ones by it or not: whoever waits until its commit was acted on knows no more.
        """
        match event:
            case PrefixDelegated() | PrefixRenewed() | PrefixDeprecated():
                known = self._delegated.get(event.prefix)
                if event.next_hop == UNKNOWN:
                    pass  # of another server's client, until it is heard here: its route is where it was
                elif known is None or known[0].next_hop != event.next_hop:
                    self._end(event.prefix)
                    route = delegated(event.prefix, event.next_hop, self._interface)
                    self._delegated[event.prefix] = route, position
                    self._routes.add(route)
            case PrefixReleased() | PrefixExpired() | PrefixWithdrawn():
                self._end(event.prefix)
            case UplinkReceived() | UplinkDeprecated():
                self._uplinks.setdefault((event.uplink, event.prefix), position)
            case UplinkLost():
                self._lose(event)
            case PlanAdopted():
                self._adopt(event.plan, position)
            case _:
                return False
        return True

    def routes(self) -> frozenset[Route]:
        """All of them."""
        return frozenset(self._routes).union(self.others())

    def wanted(self) -> dict[Route, int]:
        """All of them, with the position of the commit that each is wanted by."""
        return self.others() | dict(self._delegated.values())

    def others(self) -> dict[Route, int]:
        """Those that lead to no delegate, with the positions of their commits.

        What the plan gave to the link of a prefix from above stays on the link for as long as the prefix does, also
        where a newer plan says another one: hosts use it until it ends.
        """
        routes = {unreachable(prefix): position for prefix, position in self._pools.items()}
        for (_, prefix), position in self._uplinks.items():
            routes.setdefault(unreachable(prefix), position)
        for prefix, position in self._on_link.items():
            received = [at for (_, above), at in self._uplinks.items() if above.covers(prefix)]
            if received:
                routes[on_link(prefix, self._interface)] = max(position, min(received))
        return routes

    def _end(self, prefix: Prefix) -> None:
        if (known := self._delegated.pop(prefix, None)) is not None:
            self._routes.discard(known[0])

    def _lose(self, lost: UplinkLost) -> None:
        self._uplinks.pop((lost.uplink, lost.prefix), None)
        others = [prefix for _, prefix in self._uplinks]
        for prefix in [each for each in self._on_link if lost.prefix.covers(each)]:
            if prefix not in self._now and not any(other.covers(prefix) for other in others):
                del self._on_link[prefix]

    def _adopt(self, plan: AdoptedPlan, position: int) -> None:
        self._now = frozenset(plan.subnet.prefixes if plan.subnet is not None else ())
        for prefix in self._now:
            self._on_link.setdefault(prefix, position)
        pools = {each.prefix for each in plan.delegations if each.prefix is not None}
        self._pools = {prefix: self._pools.get(prefix, position) for prefix in pools}


def of_links(links: Sequence[LinkRoutes]) -> frozenset[Route]:
    """What all links of a router need."""
    others = {route for link in links for route in link.others()}
    own = {route.destination for route in others if route.interface}
    apart = len({route.place for route in others}) == len(others) and all(
        link.delegated.isdisjoint(own) and all(link.delegated.isdisjoint(other.delegated) for other in links[:number])
        for number, link in enumerate(links)
    )
    return frozenset().union(*(link.routes() for link in links)) if apart else frozenset(causes(links))


def causes(links: Sequence[LinkRoutes]) -> dict[Route, int]:
    """The same, with the position of the commit that each is wanted by.

    Of routes that cannot be there side by side it is the one that was wanted last.
    """
    routes: dict[Route, int] = {}
    for link in links:
        for route, position in link.wanted().items():
            routes[route] = min(position, routes.get(route, position))
    chosen: dict[tuple[Prefix, int], tuple[int, Route]] = {}
    for route, position in routes.items():
        chosen[route.place] = max((position, route), chosen.get(route.place, (position, route)))
    return {route: position for position, route in chosen.values()}
