"""A link in memory on which a DHCPv6 server hears clients and relays, and what they are answered."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager

import pytest

from dnms.agents.subnet.books import Books
from dnms.agents.subnet.dhcp6_server import Dhcp6Server
from dnms.agents.subnet.newcomers import Newcomers
from dnms.events.recorded import Event
from dnms.linux.multicast import Peer, Receive
from dnms.wire.dhcp6.messages import Message, Relayed, decode
from tests.unit.agents.conftest import PLAN, MemoryJournal, Site, client_id, running
from tests.virtual_time import pass_time

SERVER, OTHER_SERVER = b"\x00\x04server", b"\x00\x04second"
PEER: Peer = ("fe80::7%eth0", 546, 0, 2)
SERVED = PLAN.replace('range = "2001:db8:1:1::/64"', 'range = "2001:db8:1:1::/64"\npreferred = 100\nvalid = 200')


class Wire:
    """The link, where a server hears clients."""

    def __init__(self) -> None:
        self.receive: Receive | None = None
        self.sent: list[tuple[Message, Peer]] = []
        self.relayed: list[tuple[Relayed, Peer]] = []
        self.neighbours: dict[bytes, bytes] = {}  # hardware by address
        self.ours: list[bytes] = []  # addresses of the agent
        self.asked: list[bytes] = []

    def dhcp6(self, receive: Receive) -> Wire:
        self.receive = receive
        return self

    def send(self, data: bytes, peer: Peer) -> bool:
        self.sent.append((decode(data).message, peer))
        return True

    def send_to_relay(self, data: bytes, peer: Peer) -> bool:
        self.relayed.append((decode(data), peer))
        return True

    async def hardware(self, address: bytes) -> bytes:
        self.asked.append(address)
        await asyncio.sleep(0)
        return self.neighbours.get(address, b"")

    async def own(self) -> dict[bytes, bytes]:
        await asyncio.sleep(0)
        return dict.fromkeys(self.ours, bytes(6))

    async def users(self, addresses: Collection[bytes]) -> dict[bytes, frozenset[bytes]]:
        self.asked += addresses
        await pass_time(0.9)
        return {each: frozenset({self.neighbours[each]}) for each in addresses if each in self.neighbours}

    def rejoin(self) -> None:
        pass

    def close(self) -> None:
        self.receive = None

    def say(self, data: bytes, peer: Peer = PEER) -> None:
        assert self.receive is not None
        self.receive(data, peer, 255)


@asynccontextmanager
async def serving(
    books: Books,
    wire: Wire,
    *,
    duid: bytes = SERVER,
    at_once: int = 4,
    alarms: list[Event] | None = None,
    has_session: Callable[[bytes], bool] = lambda _: False,
) -> AsyncIterator[Dhcp6Server]:
    """A server on this link meanwhile."""

    async def alarm(event: Event) -> None:
        await asyncio.sleep(0)
        if alarms is not None:
            alarms.append(event)

    server = Dhcp6Server(
        books,
        wire,
        duid=duid,
        interface="net",
        client_id=client_id,
        newcomers=Newcomers(at_once=at_once),
        alarm=alarm,
        has_session=has_session,
    )
    task = asyncio.create_task(server.run())
    await pass_time(1)
    try:
        yield server
        assert not task.done()
    finally:
        task.cancel()
        await asyncio.wait((task,))
    assert wire.receive is None


@pytest.fixture
def wire() -> Wire:
    return Wire()


@pytest.fixture
async def books(site: Site) -> AsyncIterator[Books]:
    books = site.books(journal=MemoryJournal())
    async with running(books):
        yield books


@pytest.fixture
def alarms() -> list[Event]:
    return []


@pytest.fixture
async def server(books: Books, site: Site, wire: Wire, alarms: list[Event]) -> AsyncIterator[Dhcp6Server]:
    async with serving(books, wire, alarms=alarms) as server:
        await site.apply(SERVED)
        await pass_time(1)
        yield server
