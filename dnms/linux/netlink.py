"""Links, addresses and routes of this network namespace: read, changed and followed."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from types import TracebackType

from dnms.events.configuration import (
    MAX_ADDRESSES,
    MAX_LINKS,
    MAX_ROUTERS,
    MAX_ROUTES,
    InterfaceAddress,
    Link,
    Route,
    Router,
    Snapshot,
)
from dnms.events.ip import Prefix
from dnms.events.recorded import Personal
from dnms.linux import messages, requests, resolver, sysctl
from dnms.linux.changes import Changes
from dnms.linux.errors import KernelError
from dnms.linux.messages import MANAGED, plain
from dnms.linux.rtnetlink import NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE, RequestSocket


class Netlink:
    """The kernel's network configuration. Use it as `async with Netlink() as netlink`.

    It acts on the namespace in which its maker's thread was, for as long as it is open; only what a `Changes` opens
    anew after a loss, and what is read below /proc, follows the thread.
    """

    def __init__(self) -> None:
        self._requests = RequestSocket()
        self._changes: list[Changes] = []

    async def __aenter__(self) -> Netlink:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the sockets; every iteration over changes ends."""
        for changes in self._changes:
            changes.close()
        self._requests.close()

    def changes(self) -> Changes:
        """What changes from now on. Make it before reading what there is, and nothing is missed between."""
        changes = Changes()
        self._changes = [each for each in self._changes if not each.closed] + [changes]
        return changes

    # Reading

    async def links(self) -> tuple[Link, ...]:
        """All interfaces, by index."""
        found = await self._requests.dump(messages.RTM_GETLINK, requests.links(), doing="list interfaces")
        return tuple(sorted((messages.link(each) for each in found), key=lambda link: link.index))

    async def link(self, name: str) -> Link:
        """One interface by its name; KernelError `no-interface`."""
        for link in await self.links():
            if link.name == name:
                return link
        raise KernelError("no-interface", f"there is no interface {name!r}")

    async def carrier_changes(self, name: str) -> int:
        """How often the carrier of an interface has come or gone; KernelError `no-interface`."""
        found = await self._requests.dump(messages.RTM_GETLINK, requests.links(), doing="list links")
        for each in found:
            if messages.link(each).name == name:
                return messages.carrier_changes(each)
        raise KernelError("no-interface", f"there is no interface {name!r}")

    async def addresses(self, interface: int = 0) -> tuple[InterfaceAddress, ...]:
        """All addresses of both families, of one interface or of all."""
        request = requests.addresses(interface)
        found = await self._requests.dump(messages.RTM_GETADDR, request, doing="list addresses")
        return tuple(messages.interface_address(each) for each in found)

    async def routes(self) -> tuple[tuple[Route, ...], int]:
        """The unicast routes of table main, and how many of routing daemons there are beside them."""
        daemons = 0

        def wanted(data: bytes, payload: int) -> bool:
            nonlocal daemons
            if not messages.is_main_unicast(data, payload):
                return False
            if messages.is_daemons(data, payload):
                daemons += 1
                return False
            return True

        routes: list[Route] = []
        for kind in (socket.AF_INET, socket.AF_INET6):
            request = requests.routes(kind)
            try:
                found = await self._requests.dump(messages.RTM_GETROUTE, request, doing="list routes", wanted=wanted)
            except KernelError as error:
                if error.why == "not-there":  # table main of this family was never used
                    continue
                raise
            routes.extend(route for each in found for route in messages.routes(each))
        return tuple(routes), daemons

    async def routers(self) -> tuple[Router, ...]:
        """The neighbours that say that they are routers."""
        request = requests.neighbours(socket.AF_INET6)
        found = await self._requests.dump(messages.RTM_GETNEIGH, request, doing="list neighbours")
        routers = (messages.router(each) for each in found)
        return tuple(sorted((each for each in routers if each is not None), key=lambda each: each.address))

    async def snapshot(self, resolv_conf: Path) -> Snapshot:
        """The whole configuration at this moment. What is over the caps is left out, the most specific routes first."""
        links = await self.links()
        addresses = await self.addresses()
        routes, daemons = await self.routes()
        listed = (
            sorted(routes, key=lambda route: route.destination.length)[:MAX_ROUTES]
            if len(routes) > MAX_ROUTES
            else routes
        )
        return Snapshot(
            links=links[:MAX_LINKS],
            addresses=addresses[:MAX_ADDRESSES],
            routes=tuple(listed),
            routes_not_listed=daemons + len(routes) - len(listed),
            resolver=resolver.read(resolv_conf),
            sysctls=sysctl.snapshot(link.name for link in links),
            kernel=os.uname().release,
            host=Personal(os.uname().nodename),
            routers=(await self.routers())[:MAX_ROUTERS],
        )

    # Changing

    async def add_address(
        self,
        interface: int,
        address: bytes,
        prefix_length: int,
        *,
        preferred: int | None,
        valid: int | None,
        protocol: int = MANAGED,
        prefix_route: bool = False,
        optimistic: bool = False,
    ) -> None:
        """Add an address, or begin the lifetimes (seconds, None: for ever) of one that is there anew.

        Ours brings no route with it: one that the kernel makes would outlive an address that is deleted. `optimistic`:
        it can be used during DAD (RFC 4429), where the interface's `optimistic_dad` allows that; else it says nothing.
        """
        request = requests.new_address(
            interface,
            address,
            prefix_length,
            preferred=preferred,
            valid=valid,
            protocol=protocol,
            flags=(0 if prefix_route else messages.IFA_F_NOPREFIXROUTE)
            | (messages.IFA_F_OPTIMISTIC if optimistic else 0),
        )
        doing = f"add address {plain(address)}"
        await self._requests.change(messages.RTM_NEWADDR, request, NLM_F_CREATE | NLM_F_REPLACE, doing=doing)

    async def set_lifetimes(self, held: InterfaceAddress, *, preferred: int | None, valid: int | None) -> None:
        """Change the lifetimes (seconds, None: for ever) of an address that is there, whosever it is, and no more.

        Temporary addresses go by the one that they came from, for as long as that keeps the flag which says so.
        """
        request = requests.new_address(
            held.interface,
            held.address,
            held.prefix_length,
            preferred=preferred,
            valid=valid,
            protocol=_PROTOCOLS.get(held.origin, 0),  # or the kernel takes it for a person's from then on
            flags=held.flags & (messages.IFA_F_MANAGETEMPADDR | messages.IFA_F_NOPREFIXROUTE),
        )
        doing = f"change lifetimes of {plain(held.address)}"
        await self._requests.change(messages.RTM_NEWADDR, request, NLM_F_REPLACE, doing=doing)

    async def delete_address(self, interface: int, address: bytes, prefix_length: int) -> bool:
        """Delete an address; false if it was gone already (a temporary one goes with the address it came from)."""
        request = requests.address(interface, address, prefix_length)
        return await self._delete(messages.RTM_DELADDR, request, f"delete address {plain(address)}")

    async def forget_neighbours(self, interface: int) -> None:
        """Delete what was learned of who is on the link: who has the same address on another one is somebody else."""
        for kind in (socket.AF_INET6, socket.AF_INET):
            request = requests.neighbours(kind)
            found = await self._requests.dump(messages.RTM_GETNEIGH, request, doing="list neighbours")
            for index, address in filter(None, map(messages.learned_neighbour, found)):
                if index == interface:
                    request = requests.neighbour(interface, address)
                    await self._delete(messages.RTM_DELNEIGH, request, f"delete neighbour {plain(address)}")

    async def add_route(
        self,
        destination: Prefix,
        interface: int,
        *,
        gateway: bytes | None = None,
        metric: int = 0,
        protocol: int = MANAGED,
        source: bytes | None = None,
        replace: bool = False,
    ) -> None:
        """Add a route to table main. KernelError `exists` if there is one of this destination and metric already.

        `source`: the address that is taken where a socket has chosen none. `replace`: takes the place of the one that
        exists instead, whosever it is.
        """
        on_link = gateway is None and destination.family == 4
        scope = requests.RT_SCOPE_LINK if on_link else requests.RT_SCOPE_UNIVERSE
        request = requests.route(
            destination, interface, gateway=gateway, metric=metric, protocol=protocol, scope=scope, source=source
        )
        flags = NLM_F_CREATE | (NLM_F_REPLACE if replace else NLM_F_EXCL)
        await self._requests.change(messages.RTM_NEWROUTE, request, flags, doing=f"add route {destination}")

    async def delete_route(self, route: Route) -> bool:
        """Delete exactly this route, of this protocol, from table main; false if it was gone already."""
        request = requests.route(
            route.destination,
            route.interface,
            gateway=route.gateway,
            metric=route.metric,
            protocol=route.protocol,
            # Of whatever scope it is.
            scope=requests.RT_SCOPE_NOWHERE if route.destination.family == 4 else requests.RT_SCOPE_UNIVERSE,
        )
        return await self._delete(messages.RTM_DELROUTE, request, f"delete route {route.destination}")

    async def set_mtu(self, interface: int, mtu: int) -> None:
        """Set an interface's MTU, in bytes."""
        request = requests.mtu(interface, mtu)
        await self._requests.change(messages.RTM_NEWLINK, request, 0, doing=f"set MTU {mtu}")

    async def set_up(self, interface: int, *, up: bool = True) -> None:
        """Bring an interface up or down."""
        request = requests.up(interface, is_up=up)
        await self._requests.change(messages.RTM_NEWLINK, request, 0, doing=f"bring interface {'up' if up else 'down'}")

    async def _delete(self, kind: int, request: bytes, doing: str) -> bool:
        try:
            await self._requests.change(kind, request, 0, doing=doing)
        except KernelError as error:
            if error.why == "not-there":
                return False
            raise
        return True


_PROTOCOLS = {"managed": MANAGED, "slaac": messages.IFAPROT_RA}
"""Of addresses, by their origin."""
