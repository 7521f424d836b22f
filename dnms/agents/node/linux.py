"""The machine that a Node Agent runs on, when it is this one."""

from __future__ import annotations

import asyncio
import random
import ssl
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec

from dnms.agents import tls
from dnms.agents.node.identity import machine
from dnms.disk.node_state import Unproven
from dnms.domain.node_plan import NodePlan
from dnms.events.configuration import InterfaceAddress, Link, Route, Snapshot
from dnms.events.ip import format_address, is_link_local
from dnms.linux import multicast, name_servers, probe, sysctl
from dnms.linux.advertisements import AdvertisedRouters
from dnms.linux.apply import apply
from dnms.linux.changes import Changes
from dnms.linux.dad import link_local_ready
from dnms.linux.give_back import give_back
from dnms.linux.leaving_alone import leave_alone
from dnms.linux.multicast import DatagramReader, Receive
from dnms.linux.netlink import Netlink
from dnms.linux.rivals import Rival, rivals
from dnms.linux.roll_back import roll_back
from dnms.linux.settle import settle
from dnms.wire.messages import PORT, Endpoint

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class Trust:
    """Connects over one interface to whom the site's root certificate has signed for."""

    def __init__(self, interface: str, root: Path) -> None:
        """OSError, ssl.SSLError if the root certificate cannot be used."""
        self._interface = interface
        self._context: ssl.SSLContext = tls.trusting(root)

    async def connect(
        self, endpoint: Endpoint, *, seen: float
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter, tls.Validity]:
        """Connect to an agent; a link-local address is on the interface. OSError, ssl.SSLError."""
        host = format_address(endpoint.address)
        if is_link_local(endpoint.address):
            host += f"%{self._interface}"
        return await tls.connect(host, endpoint.port, self._context, seen=seen)


class LinuxDatagrams:
    """A UDP socket of discovery on one interface."""

    def __init__(self, interface: int, receive: Receive) -> None:
        """KernelError."""
        self._interface = interface
        self._socket = multicast.unicast_socket(interface)
        self._reader = DatagramReader(self._socket, receive)

    def send(self, data: bytes, group: str) -> None:
        """Multicast to a group. KernelError."""
        multicast.send(self._socket, data, (group, PORT), interface=self._interface)

    def close(self) -> None:
        """Hear no more."""
        self._reader.close()


class LinuxMachine:
    """This machine, by netlink. `state` keeps what was there before, `resolv_conf` is or says where servers are set."""

    def __init__(
        self,
        netlink: Netlink,
        interface: str,
        trust: Trust,
        *,
        state: Path,
        resolv_conf: Path,
        root: Path = Path("/"),
    ) -> None:
        self.interface = interface
        self.chance = random.SystemRandom()
        self.connect = trust.connect
        self._netlink = netlink
        self._state = state
        self._resolv_conf = resolv_conf
        self._root = root
        self._routers: AdvertisedRouters | None = None

    def smbios_uuid(self) -> str:
        """The SMBIOS UUID; empty if it is not known."""
        return machine()

    def time(self) -> float:
        """Seconds since 1970-01-01 UTC."""
        return time.time()

    def uptime(self) -> float:
        """Seconds since it was started, its sleep included."""
        return time.clock_gettime(time.CLOCK_BOOTTIME)

    def boot(self) -> str:
        """Which of its starts this is; empty if that is not known."""
        try:
            return BOOT_ID.read_text().strip()
        except OSError:
            return ""

    def asleep(self) -> float:
        """Seconds that it has slept since it was started."""
        return time.clock_gettime(time.CLOCK_BOOTTIME) - time.clock_gettime(time.CLOCK_MONOTONIC)

    async def ready(self) -> None:
        """Wait until the interface has a link-local address that can be used. KernelError."""
        await link_local_ready(self._netlink, self.interface)

    async def link(self) -> Link:
        """The interface; KernelError `no-interface`."""
        return await self._netlink.link(self.interface)

    async def carrier_changes(self) -> int:
        """How often the carrier of the interface has come or gone; KernelError `no-interface`."""
        return await self._netlink.carrier_changes(self.interface)

    async def snapshot(self) -> Snapshot:
        """The whole network configuration. KernelError."""
        snapshot = await self._netlink.snapshot(self._resolv_conf)
        index = next((link.index for link in snapshot.links if link.name == self.interface), 0)
        resolver = await name_servers.read(self.interface, index, state=self._state, resolv_conf=self._resolv_conf)
        return msgspec.structs.replace(
            snapshot,
            resolver=snapshot.resolver if resolver is None else resolver,
            advertisements=() if self._routers is None else self._routers.now(),
        )

    def hear_routers(self, interface: int, changed: Callable[[], None], moved: Callable[[], None]) -> AdvertisedRouters:
        """Hear what routers advertise there: snapshots have it. KernelError."""
        self._routers = AdvertisedRouters(self.interface, interface, changed, moved)
        return self._routers

    async def addresses(self, interface: int) -> tuple[InterfaceAddress, ...]:
        """All addresses of an interface. KernelError."""
        return await self._netlink.addresses(interface)

    async def routes(self) -> tuple[Route, ...]:
        """The unicast routes of the main table, but those of routing daemons. KernelError."""
        return (await self._netlink.routes())[0]

    async def change(self, plan: NodePlan) -> dict[bytes, str]:
        """Change the interface; the outcome of each wanted address. KernelError."""
        return await apply(
            self._netlink, plan, interface=self.interface, state=self._state, resolv_conf=self._resolv_conf
        )

    async def settle(self, plan: NodePlan, *, drain: int) -> bool:
        """Remove what the plan leaves, and what sockets use within `drain` seconds; whether some stays. KernelError."""
        return await settle(self._netlink, plan, interface=self.interface, state=self._state, drain=drain)

    async def give_back(self) -> None:
        """Make the interface what it was before DNMS took it over, if it did. KernelError."""
        await give_back(
            self._netlink,
            interface=self.interface,
            state=self._state,
            resolv_conf=self._resolv_conf,
            root=self._root,
        )

    def differing(self, settings: Mapping[str, str]) -> dict[str, str]:
        """What is set now, of the settings that are not as they should be. KernelError."""
        return sysctl.differing(settings)

    async def roll_back(self, was: Unproven, *, elapsed: float) -> None:
        """Make the interface what it was so many seconds ago. KernelError."""
        await roll_back(
            self._netlink,
            was,
            interface=self.interface,
            state=self._state,
            resolv_conf=self._resolv_conf,
            elapsed=elapsed,
        )

    async def neighbours_of(self, addresses: Mapping[bytes, bytes]) -> frozenset[bytes]:
        """Those of the addresses that somebody on the link answers for. KernelError."""
        return await probe.neighbours_of(self.interface, addresses)

    async def echoes(self, address: bytes, *, source: bytes | None) -> bool:
        """Whether an address answers an echo, from this address of ours, or from any. KernelError."""
        return await probe.echoes(address, source=source, interface=(await self.link()).index)

    async def forget_neighbours(self) -> None:
        """Forget who is on the link, since it may be another one. KernelError."""
        await self._netlink.forget_neighbours((await self.link()).index)

    async def rivals(self) -> tuple[Rival, ...]:
        """Other programs that manage the interface. KernelError."""
        index = (await self.link()).index
        return await asyncio.to_thread(rivals, self.interface, index, root=self._root)

    async def leave_alone(self, rival: Rival) -> bool:
        """Have another program leave the interface alone, by its own configuration; whether it was told now.
        KernelError.
        """
        return await asyncio.to_thread(leave_alone, rival, self.interface, state=self._state, root=self._root)

    def fingerprint(self) -> object:
        """What is read of the settings, and which files are the resolver's now: the kernel tells of neither."""
        return name_servers.fingerprint(self._resolv_conf), sysctl.watched(self.interface)

    async def delete_address(self, held: InterfaceAddress) -> None:
        """Remove an address, if it is there. KernelError."""
        await self._netlink.delete_address(held.interface, held.address, held.prefix_length)

    async def delete_route(self, route: Route) -> None:
        """Remove a route, if it is there. KernelError."""
        await self._netlink.delete_route(route)

    def changes(self) -> Changes:
        """What changes from now on."""
        return self._netlink.changes()

    def open(self, interface: int, receive: Receive) -> LinuxDatagrams:
        """A socket for discovery. KernelError."""
        return LinuxDatagrams(interface, receive)
