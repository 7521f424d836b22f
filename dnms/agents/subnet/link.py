"""The link that a Subnet Agent serves, as far as it touches it: who knocks, and who asks for an agent."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping
from typing import Protocol

from dnms.agents.listening import DiscoveryLink, Entered, Listener
from dnms.linux.advertisements import Heard
from dnms.linux.multicast import Peer, Receive
from dnms.wire.messages import Endpoint
from dnms.wire.nd import RouterAdvertisement


class Hearing(Protocol):
    """Something that hears the link."""

    def close(self) -> None:
        """Hear no more."""


class Advertiser(Protocol):
    """A router's end of the link: it hears who asks for routers."""

    @property
    def hardware(self) -> bytes:
        """The hardware address of this end."""
        ...

    @property
    def forwards(self) -> bool:
        """Whether this machine is a router for what comes from the link. KernelError."""
        ...

    def send(self, advertisement: RouterAdvertisement) -> bool:
        """Tell all nodes; false if the link cannot carry it now. KernelError."""
        ...

    def close(self) -> None:
        """Hear no more."""


class Dhcp6(Protocol):
    """The sockets of a DHCPv6 server."""

    def send(self, data: bytes, peer: Peer) -> bool:
        """Answer a client; false if the link cannot carry it now. KernelError."""
        ...

    def send_to_relay(self, data: bytes, peer: Peer) -> bool:
        """Answer a relay, wherever it is; false if no link carries that now. KernelError."""
        ...

    def rejoin(self) -> None:
        """Join the groups again: a snooping bridge may have forgotten the membership. KernelError."""

    def close(self) -> None:
        """Hear no more."""


class Dhcp4(Protocol):
    """The sockets of a DHCPv4 server."""

    @property
    def address(self) -> bytes:
        """By which clients know it."""
        ...

    def send(self, data: bytes, to: bytes, port: int, hardware: bytes = b"") -> bool:
        """Answer a client or a relay, at this hardware address if there is one; false if the link cannot carry it now.

        KernelError.
        """
        ...

    def close(self) -> None:
        """Hear no more."""


class GatewaysLink(Protocol):
    """What is needed of a link to know its routers."""

    async def answering(self, addresses: Collection[bytes]) -> Collection[bytes]:
        """Ask the link: those of the addresses that somebody there has, or this machine. KernelError."""
        ...

    def advertisements(self, heard: Heard) -> Hearing:
        """Hear what routers advertise, and ask them to; after `listen`. KernelError."""
        ...


class AdvertisingLink(Protocol):
    """What is needed of a link to be a router of it."""

    def advertiser(self, solicited: Callable[[], None]) -> Advertiser:
        """Be heard as a router, and hear who asks for one; after `listen`. KernelError."""
        ...


class Dhcp6Link(Protocol):
    """What is needed of a link to serve it by DHCPv6."""

    def dhcp6(self, receive: Receive) -> Dhcp6:
        """Hear who asks for a DHCPv6 server; after `listen`. KernelError."""
        ...

    async def hardware(self, address: bytes) -> bytes:
        """The hardware address that answers first for an IPv6 address of the link; empty if none does. KernelError."""
        ...

    async def own(self) -> Mapping[bytes, bytes]:
        """The addresses of this machine on the link, each with its hardware address; after `listen`. KernelError."""
        ...

    async def users(self, addresses: Collection[bytes]) -> Mapping[bytes, frozenset[bytes]]:
        """Ask the link who has these addresses: the hardware addresses that answer for each. KernelError."""
        ...


class Dhcp4Link(Protocol):
    """What is needed of a link to serve it by DHCPv4."""

    def dhcp4(self, receive: Callable[[bytes], None]) -> Dhcp4:
        """Hear who asks for a DHCPv4 server; after `listen`. KernelError."""
        ...

    async def users(self, addresses: Collection[bytes]) -> Mapping[bytes, frozenset[bytes]]:
        """Ask the link who has these addresses: the hardware addresses that answer for each. KernelError."""
        ...


class Watching(Hearing, Protocol):
    """Something that hears what is said to all."""

    @property
    def dropped(self) -> Counter[str]:
        """What was not handed on, by a stable word."""
        ...

    def count(self) -> None:
        """Take what the kernel has dropped since then into `dropped`."""


class SeeingLink(Protocol):
    """What is needed of a link to see who is there."""

    def watch(self, heard: Callable[[bytes], None]) -> Watching:
        """Hear the frames by which hosts say to all who they are; after `listen`. KernelError."""
        ...

    async def own(self) -> Mapping[bytes, bytes]:
        """The addresses of this machine on the link, each with its hardware address; after `listen`. KernelError."""
        ...

    async def users(self, addresses: Collection[bytes]) -> Mapping[bytes, frozenset[bytes]]:
        """Ask the link who has these addresses: the hardware addresses that answer for each. KernelError."""
        ...


class Link(DiscoveryLink, GatewaysLink, AdvertisingLink, Dhcp6Link, Dhcp4Link, SeeingLink, Protocol):
    """All of it. `LinuxLink` is the one there is; a port, so that the agent also runs where time and network are
    simulated. Who uses a part asks for that alone.
    """

    async def listen(self, port: int) -> Mapping[Endpoint, Listener[Entered]]:
        """Wait until there is an address to listen on, then listen on all there are, fe80:: first. KernelError.

        Port 0: any that is free.
        """
        ...
