"""A relay, wired together: the link that it is on, the agents that it knows, and the nodes that it passes on."""

from __future__ import annotations

import asyncio
import datetime
import socket
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec
import structlog

from dnms.agents.door import Door
from dnms.agents.listening import LinuxDiscovery
from dnms.agents.offers import Offers
from dnms.agents.relay.passing import NodeListener, Passing
from dnms.agents.relay.upstream import Agents
from dnms.disk.relay_credentials import CredentialsError, RelayCredentials
from dnms.events.ip import format_address, is_link_local
from dnms.kit.errors import one_line
from dnms.linux import multicast
from dnms.linux.dad import link_local_ready
from dnms.linux.errors import KernelError
from dnms.linux.messages import IFA_F_DADFAILED, IFA_F_TENTATIVE
from dnms.linux.multicast import Receive
from dnms.linux.netlink import Netlink
from dnms.wire import relaying
from dnms.wire.answering import fitting
from dnms.wire.messages import MAX_ENDPOINTS, PORT, Endpoint, Offer
from dnms.wire.relaying import Here, Relayed, Said

EACH = 2  # descriptors of one node: its connection, and that to its agent
REPORT = 60.0  # seconds between two lines about what was dropped

_logger = structlog.get_logger(__name__)


class RelayError(Exception):
    """The relay cannot run here, or must not go on; one line that says what to do."""


class RelaySettings(msgspec.Struct, frozen=True, kw_only=True):
    """What a relay is told at its start."""

    interface: str  # on the link
    subnet: str  # the link's name in the plan
    agents: tuple[Endpoint, ...]  # where they listen, on addresses that are routed
    directory: Path  # of its key and its certificate
    port: int = PORT  # TCP; 0: any that is free


class RelayLink:
    """The link, once there is an address to listen on. Only on link-local ones is who speaks surely on the link."""

    def __init__(self, index: int, addresses: list[bytes]) -> None:
        self.index = index
        self.addresses = addresses

    @classmethod
    async def ready(cls, interface: str) -> RelayLink:
        """Wait until it is. KernelError."""
        async with Netlink() as netlink:
            await link_local_ready(netlink, interface)
            index = (await netlink.link(interface)).index
            held = await netlink.addresses(index)
        unusable = IFA_F_TENTATIVE | IFA_F_DADFAILED
        addresses = [each.address for each in held if is_link_local(each.address) and not each.flags & unusable]
        return cls(index, addresses[:MAX_ENDPOINTS])

    def listen(self, port: int) -> dict[Endpoint, socket.socket]:
        """Listen on each. KernelError."""
        listening: dict[Endpoint, socket.socket] = {}
        try:
            for address in self.addresses:
                sock = multicast.listener(address, port, interface=self.index)
                listening[Endpoint(address=address, port=sock.getsockname()[1])] = sock
        except KernelError:
            for each in listening.values():
                each.close()
            raise
        return listening

    def discovery(self, receive: Receive) -> LinuxDiscovery:
        """Hear who asks for an agent. KernelError."""
        return LinuxDiscovery(self.index, receive)


async def run(settings: RelaySettings, *, stop: asyncio.Event) -> None:
    """Pass the nodes of a link on until `stop` is set. RelayError if that cannot be."""
    try:
        credentials = RelayCredentials.load(settings.directory, at=datetime.datetime.now(datetime.UTC))
    except CredentialsError as error:
        raise RelayError(str(error)) from error
    try:
        async with asyncio.TaskGroup() as tasks:
            running = tasks.create_task(Relay(settings, credentials).run())
            await stop.wait()
            running.cancel()
    except* KernelError as errors:
        raise RelayError(one_line(errors)) from errors


class Relay:
    """On one link."""

    def __init__(self, settings: RelaySettings, credentials: RelayCredentials) -> None:
        self._settings = settings
        self._credentials = credentials
        self._agents = Agents(settings.agents, settings.subnet, self._say)
        self._door: Door[Passing] = Door(self._pass, each=EACH)
        self._passing: set[asyncio.Task[Any]] = set()

    async def run(self) -> None:
        """Until cancelled; then the nodes look for another one. KernelError."""
        settings = self._settings
        link = await RelayLink.ready(settings.interface)
        listening = link.listen(settings.port)
        _logger.info(
            "relaying",
            relay=self._credentials.name,
            subnet=settings.subnet,
            addresses=[format_address(each.address) for each in listening],
        )
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._door.serve(NodeListener(each, self._open) for each in listening.values()))
                tasks.create_task(self._agents.run())
                tasks.create_task(self._offer(link, tuple(listening)))
                tasks.create_task(self._report())
        finally:
            _logger.info("leaving", subnet=settings.subnet, nodes=len(self._passing))
            for task in self._passing:
                task.cancel()
            if self._passing:
                await asyncio.wait(self._passing)

    def _say(self, said: Said) -> bytes:
        own = self._credentials
        return relaying.encode_said(said, certificate=own.certificate, sign=own.key.sign)

    async def _open(self, node: bytes, record: bytes) -> tuple[socket.socket, bytes]:
        settings = self._settings
        relayed = Relayed(
            subnet=settings.subnet, node=node, interface=settings.interface, hello=relaying.digest(record)
        )
        return await self._agents.open(relayed, record)

    async def _pass(self, passing: Passing) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._passing.add(task)
        try:
            await passing.ended()
        finally:
            self._passing.discard(task)

    async def _offer(self, link: RelayLink, endpoints: tuple[Endpoint, ...]) -> None:
        """Be found on the link as long as an agent answers. KernelError."""
        while True:
            self._agents.changed.clear()
            if (here := self._agents.best) is None:
                await self._agents.changed.wait()
                continue
            async with asyncio.TaskGroup() as tasks:
                offer = self._offer_of(here, endpoints)
                offering = tasks.create_task(Offers(link, offer, self._load).run())
                while self._agents.best is not None and self._offer_of(self._agents.best, endpoints) == offer:
                    await self._agents.changed.wait()
                    self._agents.changed.clear()
                offering.cancel()

    def _offer_of(self, here: Here, endpoints: tuple[Endpoint, ...]) -> Offer:
        """As that agent would offer itself, but for its name, its addresses and its load."""
        return fitting(
            Offer(
                nonce=bytes(16),
                site=here.site,
                subnet=here.subnet,
                agent=self._credentials.name,
                endpoints=endpoints,
                preference=here.preference,
                root=here.root,
            )
        )

    def _load(self) -> int:
        best = self._agents.best
        return 0 if best is None else best.load

    async def _report(self) -> None:
        while True:
            await asyncio.sleep(REPORT)
            dropped: Counter[str] = self._door.dropped
            if dropped:
                counted: dict[str, Any] = dict(dropped)
                _logger.warning("not passed on", **counted)
                dropped.clear()
