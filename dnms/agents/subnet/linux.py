"""The link that a Subnet Agent serves, when it is one of this machine's."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Collection, Iterable

from dnms.agents.listening import LinuxDiscovery, TcpListener
from dnms.events.configuration import InterfaceAddress, Link
from dnms.events.ip import family, is_link_local
from dnms.linux import arp, multicast, neighbours
from dnms.linux.advertisements import Advertisements, Heard
from dnms.linux.advertiser import Advertiser
from dnms.linux.dad import link_local_ready
from dnms.linux.dhcp4_server import Dhcp4ServerSockets
from dnms.linux.dhcp6_server import Dhcp6ServerSockets
from dnms.linux.errors import KernelError
from dnms.linux.messages import IFA_F_DADFAILED, IFA_F_TENTATIVE
from dnms.linux.multicast import Receive
from dnms.linux.netlink import Netlink
from dnms.linux.solicitation import solicit_routers
from dnms.linux.watching import Watching
from dnms.wire.messages import MAX_ENDPOINTS, Endpoint


class LinuxLink:
    """An interface of this machine."""

    def __init__(self, interface: str, context: ssl.SSLContext) -> None:
        self._interface = interface
        self._context = context
        self._index = 0
        self._own_link = Link(index=0, name=interface)
        self._address = bytes(16)
        self._ipv4 = bytes(16)

    async def listen(self, port: int) -> dict[Endpoint, TcpListener]:
        """Wait until there is an address to listen on, then listen on all there are. KernelError."""
        async with Netlink() as netlink:
            await link_local_ready(netlink, self._interface)
            self._own_link = await netlink.link(self._interface)
            self._index = self._own_link.index
            # fe80:: comes first in an offer; every other address of the interface works as well (D29).
            held = sorted(await netlink.addresses(self._index), key=lambda each: each.origin != "link-local")
            usable = [each.address for each in held if not each.flags & (IFA_F_TENTATIVE | IFA_F_DADFAILED)]
        # The lowest of several, which is the one that a person has chosen: fe80::1 and the like.
        self._address = min(address for address in usable if is_link_local(address))
        self._ipv4 = next((address for address in usable if family(address) == 4), bytes(16))
        return self._listen(usable[:MAX_ENDPOINTS], port)

    def _listen(self, addresses: list[bytes], port: int) -> dict[Endpoint, TcpListener]:
        """Listen on each address; one that has gone since it was looked for is left out, unless no other is left."""
        listening: dict[Endpoint, TcpListener] = {}
        try:
            for address in addresses:
                try:
                    listener = multicast.listener(address, port, interface=self._index)
                except KernelError as error:
                    if error.why != "not-there" or (address == addresses[-1] and not listening):
                        raise
                    continue
                endpoint = Endpoint(address=address, port=listener.getsockname()[1])
                listening[endpoint] = TcpListener(listener, self._context)
        except KernelError:
            for each in listening.values():
                each.close()
            raise
        return listening

    def discovery(self, receive: Receive) -> LinuxDiscovery:
        """Hear who asks for an agent; after `listen`. KernelError."""
        return LinuxDiscovery(self._index, receive)

    async def users(self, addresses: Collection[bytes]) -> dict[bytes, frozenset[bytes]]:
        """The hardware addresses that answer for each; after `listen`. KernelError."""
        six = [address for address in addresses if family(address) == 6]
        four = [address for address in addresses if family(address) == 4]
        own = await self._own()
        sources = {address: _source(own, address) for address in four}
        by_arp, by_nd = await asyncio.gather(
            arp.answers(self._interface, sources), neighbours.answers(self._interface, six)
        )
        return by_arp | by_nd

    async def answering(self, addresses: Collection[bytes]) -> Collection[bytes]:
        """Those of the addresses that somebody on the link has, or this machine; after `listen`. KernelError."""
        own = {each.address for each in await self._own()}
        others = [address for address in addresses if address not in own]
        return own.intersection(addresses).union(await self.users(others))

    def advertisements(self, heard: Heard) -> Advertisements:
        """Hear what routers advertise, and ask them to; after `listen`. KernelError."""
        hearing = Advertisements(self._interface, heard)
        try:
            solicit_routers(self._index)
        except KernelError:
            hearing.close()
            raise
        return hearing

    def advertiser(self, solicited: Callable[[], None]) -> Advertiser:
        """Be heard as a router, and hear who asks for one; after `listen`. KernelError."""
        return Advertiser(self._own_link, self._address, solicited)

    def dhcp6(self, receive: Receive) -> Dhcp6ServerSockets:
        """Hear who asks for a DHCPv6 server; after `listen`. KernelError."""
        return Dhcp6ServerSockets(self._index, self._address, receive)

    async def hardware(self, address: bytes) -> bytes:
        """The hardware address that answers first for an IPv6 address; empty if none; after `listen`. KernelError."""
        found = await neighbours.answers(self._interface, [address], first=True)
        return min(found.get(address, frozenset()), default=b"")

    def dhcp4(self, receive: Callable[[bytes], None]) -> Dhcp4ServerSockets:
        """Hear who asks for a DHCPv4 server; after `listen`. KernelError."""
        return Dhcp4ServerSockets(self._interface, self._index, self._ipv4, receive)

    def watch(self, heard: Callable[[bytes], None]) -> Watching:
        """Hear the frames by which hosts say to all who they are; after `listen`. KernelError."""
        return Watching(self._interface, heard)

    async def own(self) -> dict[bytes, bytes]:
        """The addresses of this machine on the link, each with its hardware address; after `listen`. KernelError."""
        hardware = self._own_link.hardware.value if self._own_link.hardware is not None else None
        return {each.address: hardware if isinstance(hardware, bytes) else b"" for each in await self._own()}

    async def _own(self) -> tuple[InterfaceAddress, ...]:
        async with Netlink() as netlink:
            return await netlink.addresses(self._index)


def _source(own: Iterable[InterfaceAddress], asked: bytes) -> bytes:
    """Our address in the same prefix as an IPv4 address; unspecified if there is none."""
    for each in own:
        host = 128 - each.prefix_length
        if family(each.address) == 4 and int.from_bytes(each.address) >> host == int.from_bytes(asked) >> host:
            return each.address
    return arp.NOBODY
