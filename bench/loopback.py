"""The ends of a link that is the loopback interface: real sockets and real TLS, and no kernel that is configured.

An agent listens on ::1. Its nodes have no link to multicast on, so they ask its discovery socket by unicast; and as all
have one address there, the agent tells them apart by their ports.
"""

from __future__ import annotations

import asyncio
import random
import secrets
import socket
import ssl
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from pathlib import Path
from types import TracebackType
from typing import NoReturn

import msgspec

from dnms.agents.listening import TcpKnock
from dnms.agents.node.linux import Trust
from dnms.agents.tls import Validity
from dnms.disk.node_state import Kept, NodeStateDirectory, Unproven
from dnms.domain.node_plan import PROTOCOL, NodePlan
from dnms.events.configuration import InterfaceAddress, Link, Resolver, Route, Snapshot
from dnms.events.ip import parse_address, parse_prefix
from dnms.events.recorded import Personal
from dnms.linux import multicast, sysctl
from dnms.linux.advertisements import Heard
from dnms.linux.changes import Change
from dnms.linux.multicast import DatagramReader, Peer, Receive
from dnms.linux.rivals import Rival
from dnms.wire.messages import FOREVER, Endpoint

LOOPBACK = parse_address("::1")
INDEX = socket.if_nametoindex("lo")
NAME, LINK = "eth0", 2
"""What a node believes its interface to be."""

SETTINGS = {name.replace("/lo/", f"/{NAME}/"): value for name, value in sysctl.snapshot(["lo"]).items()}


class LoopbackListener:
    """TCP on ::1, with TLS behind it."""

    def __init__(self, listening: socket.socket, context: ssl.SSLContext) -> None:
        self._socket = listening
        self._context = context

    async def accept(self) -> TcpKnock:
        """Wait for the next connection. OSError."""
        connection, address = await asyncio.get_running_loop().sock_accept(self._socket)
        return TcpKnock(connection, f"{address[0]}%{address[1]}", self._context)

    def close(self) -> None:
        """Listen no more."""
        self._socket.close()


class LoopbackDiscovery:
    """A socket of discovery that nodes ask by unicast."""

    def __init__(self, receive: Receive) -> None:
        self._socket = multicast.unicast_socket(INDEX)
        self.port: int = self._socket.getsockname()[1]

        def told_apart(data: bytes, peer: Peer, hop_limit: int) -> None:
            receive(data, (f"{peer[0]}%{peer[1]}", *peer[1:]), hop_limit)

        self._reader = DatagramReader(self._socket, told_apart)

    @property
    def dropped(self) -> Counter[str]:
        """What was not handed on, by a stable word."""
        return self._reader.dropped

    def send(self, data: bytes, peer: Peer) -> None:
        """Answer a peer. KernelError."""
        multicast.send(self._socket, data, (peer[0].partition("%")[0], *peer[1:]), interface=INDEX)

    def rejoin(self) -> None:
        """There are no groups."""

    def close(self) -> None:
        """Hear no more."""
        self._reader.close()


class LoopbackLink:
    """What an agent serves."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self.serving: asyncio.Future[tuple[int, int]] = asyncio.get_running_loop().create_future()
        """The ports of sessions and of discovery, when it listens."""
        self._context = context
        self._port = 0

    async def listen(self, port: int) -> dict[Endpoint, LoopbackListener]:
        """Listen on ::1. KernelError."""
        listening = multicast.listener(LOOPBACK, port, interface=INDEX)
        self._port = listening.getsockname()[1]
        return {Endpoint(address=LOOPBACK, port=self._port): LoopbackListener(listening, self._context)}

    def discovery(self, receive: Receive) -> LoopbackDiscovery:
        """Hear who asks for an agent. KernelError."""
        discovery = LoopbackDiscovery(receive)
        self.serving.set_result((self._port, discovery.port))
        return discovery

    async def users(self, addresses: Collection[bytes]) -> dict[bytes, frozenset[bytes]]:
        """Nobody answers here."""
        return {}

    async def answering(self, addresses: Collection[bytes]) -> Collection[bytes]:
        """Nobody answers here."""
        return ()

    def advertisements(self, heard: Heard) -> LoopbackDiscovery:
        """There are no routers here."""
        return self.discovery(lambda data, peer, hops: None)

    def advertiser(self, solicited: Callable[[], None]) -> NoReturn:
        """Nor hosts."""
        raise NotImplementedError

    def dhcp6(self, receive: Receive) -> NoReturn:
        """Nor clients of DHCPv6."""
        raise NotImplementedError

    async def hardware(self, address: bytes) -> NoReturn:
        """Nor asks who they are."""
        raise NotImplementedError

    def dhcp4(self, receive: Callable[[bytes], None]) -> NoReturn:
        """Nor of DHCPv4."""
        raise NotImplementedError

    def watch(self, heard: Callable[[bytes], None]) -> NoReturn:
        """Nor frames."""
        raise NotImplementedError

    async def own(self) -> dict[bytes, bytes]:
        """Nothing but ::1."""
        return {}


class Times(msgspec.Struct):
    """When a node came how far, in seconds of the monotonic clock; 0: not yet."""

    asked: float = 0.0  # its first datagram
    offered: float = 0.0  # it begins to connect
    connected: float = 0.0  # TLS has proven the agent
    assigned: float = 0.0  # it has its assignment, and a plan of what to change
    datagrams: int = 0
    connects: int = 0


class Quiet:
    """A kernel in which nothing changes."""

    def __enter__(self) -> Quiet:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def __aiter__(self) -> AsyncIterator[Change]:
        return self

    async def __anext__(self) -> Change:
        await asyncio.get_running_loop().create_future()
        raise StopAsyncIteration


class LoopbackDatagrams:
    """A node's socket of discovery."""

    def __init__(self, receive: Receive, port: int, times: Times) -> None:
        self._socket = multicast.unicast_socket(INDEX)
        self._reader = DatagramReader(self._socket, receive)
        self._port = port
        self._times = times

    def send(self, data: bytes, group: str) -> None:
        """Ask the agent, which is in every group. KernelError."""
        self._times.asked = self._times.asked or time.monotonic()
        self._times.datagrams += 1
        multicast.send(self._socket, data, ("::1", self._port), interface=INDEX)

    def close(self) -> None:
        """Hear no more."""
        self._reader.close()


class Unheard:
    """No router advertises itself here."""

    def close(self) -> None:
        """Nothing was heard."""


class LoopbackMachine:
    """A machine whose agent may go on when `gun` is set, and whose kernel lets every address be used at once."""

    interface = NAME
    chance = random.SystemRandom()

    def __init__(self, name: str, root: Path, discovery: int, gun: asyncio.Event) -> None:
        self.times = Times()
        self.configured = asyncio.Event()
        self.waits = False  # for the gun
        self._name = name
        self._trust = Trust(NAME, root)
        self._discovery = discovery
        self._gun = gun
        self._looked = False
        hardware = b"\x02" + secrets.token_bytes(5)
        self._link = Link(
            index=LINK, name=NAME, kind="veth", hardware=Personal(hardware), mtu=1500, up=True, carrier=True
        )
        self._addresses = {
            parse_address(text): InterfaceAddress(
                interface=LINK, address=parse_address(text), prefix_length=64, origin=origin
            )
            for text, origin in (("fe80::5", "link-local"), ("2001:db8:1:1::5", "slaac"))
        }
        self._routes: tuple[Route, ...] = (
            Route(destination=parse_prefix("fe80::/64"), interface=LINK, metric=256, protocol=2),
            Route(destination=parse_prefix("2001:db8:1:1::/64"), interface=LINK, metric=256, protocol=2),
            Route(destination=parse_prefix("::/0"), interface=LINK, gateway=parse_address("fe80::1"), protocol=9),
        )
        self._resolver = Resolver()

    def smbios_uuid(self) -> str:
        """Its name: no two machines have one."""
        return self._name

    def time(self) -> float:
        """The wall clock."""
        return time.time()

    def asleep(self) -> float:
        """It never sleeps."""
        return 0.0

    async def ready(self) -> None:
        """At once at the agent's start; before it searches, when all may."""
        if self._looked:
            self.waits = True
            await self._gun.wait()
        self._looked = True

    async def link(self) -> Link:
        """The interface."""
        return self._link

    async def snapshot(self) -> Snapshot:
        """The whole network configuration."""
        return Snapshot(
            links=(self._link,),
            addresses=tuple(self._addresses.values()),
            routes=self._routes,
            resolver=self._resolver,
            sysctls=SETTINGS,
            kernel="6.18",
        )

    async def carrier_changes(self) -> int:
        """It never goes."""
        return 0

    def hear_routers(self, interface: int, changed: Callable[[], None], moved: Callable[[], None]) -> Unheard:
        """There are none."""
        return Unheard()

    async def addresses(self, interface: int) -> tuple[InterfaceAddress, ...]:
        """All addresses."""
        return tuple(self._addresses.values())

    async def routes(self) -> tuple[Route, ...]:
        """All routes."""
        return self._routes

    def uptime(self) -> float:
        """Seconds of the event loop's clock."""
        return asyncio.get_running_loop().time()

    def boot(self) -> str:
        """It is started once."""
        return "boot"

    def differing(self, settings: Mapping[str, str]) -> dict[str, str]:
        """It has no settings."""
        return {}

    async def neighbours_of(self, addresses: Mapping[bytes, bytes]) -> frozenset[bytes]:
        """All gateways are there."""
        return frozenset(addresses)

    async def echoes(self, address: bytes, *, source: bytes | None) -> bool:
        """All of the world is there."""
        return True

    async def roll_back(self, was: Unproven, *, elapsed: float) -> None:
        """Nothing fails here."""
        raise AssertionError("rolled back")

    async def forget_neighbours(self) -> None:
        """None are kept."""

    async def rivals(self) -> tuple[Rival, ...]:
        """Nobody else manages anything here."""
        return ()

    async def leave_alone(self, rival: Rival) -> bool:
        """There is nobody to tell."""
        raise AssertionError(rival)

    def fingerprint(self) -> object:
        """Nobody changes settings here."""
        return None

    async def settle(self, plan: NodePlan, *, drain: int) -> bool:
        """Nobody else sets anything here."""
        return False

    async def give_back(self) -> None:
        """There was nothing before."""
        self._addresses, self._routes, self._resolver = {}, (), Resolver()

    async def change(self, plan: NodePlan) -> dict[bytes, str]:
        """All that is wanted is there at once, and can be used."""
        self.times.assigned = self.times.assigned or time.monotonic()
        for stray in plan.remove_addresses:
            self._addresses.pop(stray.address, None)
        for wanted in plan.add_addresses:
            self._addresses[wanted.address] = InterfaceAddress(
                interface=LINK,
                address=wanted.address,
                prefix_length=wanted.prefix_length,
                origin="managed",
                valid=None if wanted.valid == FOREVER else wanted.valid,
            )
        added = (
            Route(
                destination=each.destination,
                interface=LINK,
                gateway=each.gateway,
                metric=each.metric,
                protocol=PROTOCOL,
            )
            for each in plan.add_routes
        )
        self._routes = tuple(dict.fromkeys([*(set(self._routes) - set(plan.remove_routes)), *added]))
        self._resolver = plan.resolver or self._resolver
        self.configured.set()
        return {wanted.address: "usable" for wanted in plan.add_addresses}

    async def delete_address(self, held: InterfaceAddress) -> None:
        """Remove an address."""
        self._addresses.pop(held.address, None)

    async def delete_route(self, route: Route) -> None:
        """Remove a route."""
        self._routes = tuple(each for each in self._routes if each != route)

    def changes(self) -> Quiet:
        """Nothing changes that it has not changed itself."""
        return Quiet()

    def open(self, interface: int, receive: Receive) -> LoopbackDatagrams:
        """A socket for discovery. KernelError."""
        return LoopbackDatagrams(receive, self._discovery, self.times)

    async def connect(
        self, endpoint: Endpoint, *, seen: float
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter, Validity]:
        """Connect to the agent. OSError, ssl.SSLError."""
        self.times.offered = self.times.offered or time.monotonic()
        self.times.connects += 1
        connected = await self._trust.connect(endpoint, seen=seen)
        self.times.connected = self.times.connected or time.monotonic()
        return connected


class Forgetful(NodeStateDirectory):
    """Keeps no assignment: many nodes share a disk here, and would wait for each other's syncs."""

    def keep(self, interface: str, kept: Kept) -> None:
        """Not kept."""
