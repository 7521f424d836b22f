"""DHCPv4 clients on a link with an agent's server, on a log in memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from contextlib import asynccontextmanager
from random import Random
from typing import Any

import pytest

from dnms.agents.subnet.books import Books
from dnms.agents.subnet.dhcp4_server import Dhcp4Server
from dnms.agents.subnet.newcomers import Newcomers
from dnms.events.ip import parse_address
from dnms.wire.dhcp4.codes import BROADCAST, Kind
from dnms.wire.dhcp4.messages import NOBODY, Message, decode, encode
from dnms.wire.dhcp4.options import Options
from dnms.wire.dhcp4.server import Way
from tests.unit.agents.conftest import PLAN, FrailLog, Site, client_id
from tests.unit.agents.dhcp6_wire import books
from tests.virtual_time import pass_time

__all__ = ["books"]

SERVER, SECOND = parse_address("192.0.2.1"), parse_address("192.0.2.14")
HARDWARE, OTHER = bytes.fromhex("020000000007"), bytes.fromhex("020000000008")
ELSEWHERE, STATIC = parse_address("198.51.100.7"), parse_address("192.0.2.201")
SERVED = PLAN.replace("192.0.2.0/28", "192.0.2.0/24", 1).replace(
    'dns = ["2001:db8::53"]', 'dns = ["2001:db8::53", "192.0.2.53"]\nsearch = ["home.example", "example"]\nmtu = 1400'
)
SEQUENTIAL = SERVED.replace('range = "192.0.2.0/28"', 'range = "192.0.2.0/28"\nstrategy = "sequential"')


class Wire:
    """The link, where a server hears clients."""

    def __init__(self, address: bytes = SERVER) -> None:
        self.address = address
        self.receive: Callable[[bytes], None] | None = None
        self.sent: list[tuple[Message, Way]] = []
        self.used: dict[bytes, frozenset[bytes]] = {}
        self.asked: list[bytes] = []
        self.looks_for = 0.0  # seconds until the link has said who uses an address

    def dhcp4(self, receive: Callable[[bytes], None]) -> Wire:
        self.receive = receive
        return self

    def send(self, data: bytes, to: bytes, port: int, hardware: bytes = b"") -> bool:
        self.sent.append((decode(data), Way(address=to, port=port, hardware=hardware)))
        return True

    def close(self) -> None:
        self.receive = None

    def say(self, data: bytes) -> None:
        assert self.receive is not None
        self.receive(data)

    async def users(self, addresses: Collection[bytes]) -> Mapping[bytes, frozenset[bytes]]:
        self.asked += addresses
        await pass_time(self.looks_for)
        return self.used


class Client:
    """A machine on the link, whose messages are as the test wants them."""

    transactions = 0

    def __init__(self, wire: Wire, hardware: bytes = HARDWARE, **fields: Any) -> None:
        self.wire = wire
        self.hardware = hardware
        self.fields = fields
        self.way: Way | None = None

    async def ask(self, kind: Kind, *, client: bytes = NOBODY, seconds: float = 1.0, **said: Any) -> Message | None:
        """What is answered to one message; None: nothing is."""
        Client.transactions += 1
        transaction = Client.transactions.to_bytes(4)
        fields = {"flags": BROADCAST, **self.fields}
        message = Message(
            op=1,
            kind=int(kind),
            transaction=transaction,
            hardware=self.hardware,
            client=client,
            options=Options(**said),
            **fields,
        )
        self.wire.sent.clear()
        self.wire.say(encode(message))
        await pass_time(seconds)
        if not self.wire.sent:
            return None
        ((answer, self.way),) = self.wire.sent
        assert (answer.transaction, answer.hardware, answer.op) == (transaction, self.hardware, 2)
        assert answer.options.server_id == self.wire.address
        return answer

    async def has(self, **said: Any) -> bytes:
        """The address that it has after a Discover and a Request."""
        offered = await self.ask(Kind.DISCOVER, **said)
        assert offered is not None
        assert offered.kind == Kind.OFFER
        acknowledged = await self.select(offered.yours, **said)
        assert acknowledged is not None
        assert (acknowledged.kind, acknowledged.yours) == (Kind.ACK, offered.yours)
        return acknowledged.yours

    async def select(self, address: bytes, **said: Any) -> Message | None:
        return await self.ask(Kind.REQUEST, **{"server_id": self.wire.address, "requested_address": address, **said})

    async def reboot(self, address: bytes) -> Message | None:
        return await self.ask(Kind.REQUEST, requested_address=address)

    async def renew(self, address: bytes) -> Message | None:
        return await self.ask(Kind.REQUEST, client=address)


def of(log: FrailLog, kind: type[Any]) -> list[Any]:
    return [event for event in log.events() if isinstance(event, kind)]


def is_nak(answer: Message | None) -> bool:
    return answer is not None and answer.kind == Kind.NAK and answer.yours == NOBODY


def is_ack(answer: Message | None, address: bytes) -> bool:
    return answer is not None and answer.kind == Kind.ACK and answer.yours == address


@pytest.fixture
def wire() -> Wire:
    return Wire()


@asynccontextmanager
async def serving(books: Books, wire: Wire, *, at_once: int = 2) -> AsyncIterator[Dhcp4Server]:
    """A server on the link, that lets so many new nodes come from an address at once."""
    newcomers = Newcomers(at_once=at_once)
    server = Dhcp4Server(books, wire, client_id=client_id, newcomers=newcomers, random=Random(1).randbytes)
    task = asyncio.create_task(server.run())
    await asyncio.sleep(0)
    try:
        yield server
        assert not task.done()
    finally:
        task.cancel()
        await asyncio.wait((task,))
    assert wire.receive is None


@pytest.fixture
async def server(books: Books, site: Site, wire: Wire) -> AsyncIterator[Dhcp4Server]:
    async with serving(books, wire) as server:
        await site.apply(SERVED)
        await pass_time(1)
        yield server


@pytest.fixture
def client(wire: Wire) -> Client:
    return Client(wire)
