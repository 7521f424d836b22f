"""Links, addresses and routes of this network namespace: read, changed and followed."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from types import TracebackType

from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg
from pyroute2.netlink.rtnl.ndmsg import ndmsg
from pyroute2.netlink.rtnl.rtmsg import rtmsg

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
from dnms.events.ip import MAPPED_BITS, Prefix, family
from dnms.events.recorded import Personal
from dnms.linux import messages, resolver, sysctl
from dnms.linux.changes import Changes
from dnms.linux.errors import KernelError
from dnms.linux.messages import FOR_EVER, MANAGED, plain
from dnms.linux.rtnetlink import NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE, Message, RequestSocket

RT_SCOPE_UNIVERSE = 0
RT_SCOPE_LINK = 253
RTEXT_FILTER_SKIP_STATS = 8


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
        request = ifinfmsg()
        request["attrs"] = [("IFLA_EXT_MASK", RTEXT_FILTER_SKIP_STATS)]
        found = await self._requests.dump(messages.RTM_GETLINK, request, doing="list interfaces")
        return tuple(sorted((messages.link(each) for each in found), key=lambda link: link.index))

    async def link(self, name: str) -> Link:
        """One interface by its name; KernelError `no-interface`."""
        for link in await self.links():
            if link.name == name:
                return link
        raise KernelError("no-interface", f"there is no interface {name!r}")

    async def addresses(self, interface: int = 0) -> tuple[InterfaceAddress, ...]:
        """All addresses of both families, of one interface or of all."""
        request = ifaddrmsg()
        request["index"] = interface
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
            request = rtmsg()
            request["family"] = kind
            request["attrs"] = [("RTA_TABLE", messages.RT_TABLE_MAIN)]
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
        request = ndmsg()
        request["family"] = socket.AF_INET6
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
    ) -> None:
        """Add an address, or begin the lifetimes (seconds, None: for ever) of one that is there anew.

        Ours brings no route with it: one that the kernel makes would outlive an address that is deleted.
        """
        request = _address(interface, address, prefix_length)
        request["attrs"] += [
            ("IFA_FLAGS", 0 if prefix_route else messages.IFA_F_NOPREFIXROUTE),
            ("IFA_PROTO", protocol),
            ("IFA_CACHEINFO", {"ifa_preferred": _lifetime(preferred), "ifa_valid": _lifetime(valid)}),
        ]
        if family(address) == 4 and prefix_length < 127:
            host = (1 << (128 - prefix_length)) - 1
            request["attrs"].append(("IFA_BROADCAST", plain((int.from_bytes(address) | host).to_bytes(16))))
        doing = f"add address {plain(address)}"
        await self._requests.change(messages.RTM_NEWADDR, request, NLM_F_CREATE | NLM_F_REPLACE, doing=doing)

    async def set_lifetimes(self, held: InterfaceAddress, *, preferred: int | None, valid: int | None) -> None:
        """Change the lifetimes (seconds, None: for ever) of an address that is there, whosever it is, and no more.

        Temporary addresses go by the one that they came from, for as long as that keeps the flag which says so.
        """
        request = _address(held.interface, held.address, held.prefix_length)
        request["attrs"] += [
            ("IFA_FLAGS", held.flags & (messages.IFA_F_MANAGETEMPADDR | messages.IFA_F_NOPREFIXROUTE)),
            ("IFA_PROTO", _PROTOCOLS.get(held.origin, 0)),  # or the kernel takes it for a person's from then on
            ("IFA_CACHEINFO", {"ifa_preferred": _lifetime(preferred), "ifa_valid": _lifetime(valid)}),
        ]
        doing = f"change lifetimes of {plain(held.address)}"
        await self._requests.change(messages.RTM_NEWADDR, request, NLM_F_REPLACE, doing=doing)

    async def delete_address(self, interface: int, address: bytes, prefix_length: int) -> bool:
        """Delete an address; false if it was gone already (a temporary one goes with the address it came from)."""
        request = _address(interface, address, prefix_length)
        return await self._delete(messages.RTM_DELADDR, request, f"delete address {plain(address)}")

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
        request = _route(destination, interface, gateway, metric, protocol)
        if source is not None:
            request["attrs"].append(("RTA_PREFSRC", plain(source)))
        if gateway is None and destination.family == 4:
            request["scope"] = RT_SCOPE_LINK
        flags = NLM_F_CREATE | (NLM_F_REPLACE if replace else NLM_F_EXCL)
        await self._requests.change(messages.RTM_NEWROUTE, request, flags, doing=f"add route {destination}")

    async def delete_route(self, route: Route) -> bool:
        """Delete exactly this route, of this protocol, from table main; false if it was gone already."""
        request = _route(route.destination, route.interface, route.gateway, route.metric, route.protocol)
        request["scope"] = 255 if route.destination.family == 4 else RT_SCOPE_UNIVERSE  # 255: any (RT_SCOPE_NOWHERE)
        return await self._delete(messages.RTM_DELROUTE, request, f"delete route {route.destination}")

    async def set_mtu(self, interface: int, mtu: int) -> None:
        """Set an interface's MTU, in bytes."""
        request = ifinfmsg()
        request["index"] = interface
        request["attrs"] = [("IFLA_MTU", mtu)]
        await self._requests.change(messages.RTM_NEWLINK, request, 0, doing=f"set MTU {mtu}")

    async def set_up(self, interface: int, *, up: bool = True) -> None:
        """Bring an interface up or down."""
        request = ifinfmsg()
        request["index"] = interface
        request["flags"] = messages.IFF_UP if up else 0
        request["change"] = messages.IFF_UP
        await self._requests.change(messages.RTM_NEWLINK, request, 0, doing=f"bring interface {'up' if up else 'down'}")

    async def _delete(self, kind: int, request: Message, doing: str) -> bool:
        try:
            await self._requests.change(kind, request, 0, doing=doing)
        except KernelError as error:
            if error.why == "not-there":
                return False
            raise
        return True


_PROTOCOLS = {"managed": MANAGED, "slaac": messages.IFAPROT_RA}
"""Of addresses, by their origin."""


def _lifetime(seconds: int | None) -> int:
    return FOR_EVER if seconds is None else max(0, min(seconds, FOR_EVER))


def _address(interface: int, address: bytes, prefix_length: int) -> Message:
    ipv4 = family(address) == 4
    request = ifaddrmsg()
    request["family"] = socket.AF_INET if ipv4 else socket.AF_INET6
    request["prefixlen"] = prefix_length - MAPPED_BITS if ipv4 else prefix_length
    request["index"] = interface
    request["attrs"] = [("IFA_LOCAL", plain(address)), ("IFA_ADDRESS", plain(address))]
    return request


def _route(destination: Prefix, interface: int, gateway: bytes | None, metric: int, protocol: int) -> Message:
    ipv4 = destination.family == 4
    request = rtmsg()
    request["family"] = socket.AF_INET if ipv4 else socket.AF_INET6
    request["dst_len"] = destination.length - MAPPED_BITS if ipv4 else destination.length
    request["table"] = messages.RT_TABLE_MAIN
    request["proto"] = protocol
    request["scope"] = RT_SCOPE_UNIVERSE
    request["type"] = messages.RTN_UNICAST
    attributes: list[tuple[str, object]] = [("RTA_OIF", interface)]
    if request["dst_len"]:
        attributes.append(("RTA_DST", plain(destination.network)))
    if metric:
        attributes.append(("RTA_PRIORITY", metric))
    if gateway is not None:
        if ipv4 and family(gateway) == 6:
            attributes.append(("RTA_VIA", {"family": socket.AF_INET6, "addr": plain(gateway)}))
        else:
            attributes.append(("RTA_GATEWAY", plain(gateway)))
    request["attrs"] = attributes
    return request
