"""A link that agents watch, on a log in memory and in virtual time."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from typing import TypeVar

import pytest
from scapy.layers.dhcp import BOOTP, DHCP
from scapy.layers.dhcp6 import DHCP6_Advertise, DHCP6_Renew, DHCP6OptServerId
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import ICMPv6ND_NA, ICMPv6ND_RA, ICMPv6NDOptPrefixInfo, IPv6
from scapy.layers.l2 import ARP, Ether
from scapy.packet import Packet

from dnms.agents.subnet.announcing import Announcing, Losing
from dnms.agents.subnet.books import Books
from dnms.agents.subnet.seeing import LOOK, Seeing
from dnms.domain import sightings
from dnms.domain.identity import duid_of_hardware
from dnms.events.ip import family, format_address, parse_address
from dnms.events.link import AlarmCleared, AlarmRaised
from dnms.events.recorded import Event
from tests.unit.agents.conftest import Clock, FrailLog, client_id
from tests.virtual_time import pass_time

E = TypeVar("E", bound=Event)

OURS, OWN = bytes([2, 0, 0, 0, 0, 0xEE]), parse_address("192.0.2.1")
SLAAC, POOLED = "2001:db8:2:3:1234:5678:9abc:def0", "192.0.2.5"
SOON = 3 * LOOK
UNSEEN, COUNTS = 600, 3_600


def hardware(number: int | bytes) -> bytes:
    return number if isinstance(number, bytes) else bytes([2, 0, 0]) + number.to_bytes(3)


def client(number: int | bytes) -> bytes:
    return client_id(duid_of_hardware(hardware(number)))


class Segment:
    """A link that several agents hear, and who answers on it."""

    def __init__(self) -> None:
        self.heard: list[Callable[[bytes], None]] = []
        self.answering: dict[bytes, set[bytes]] = {}
        self.asked: list[bytes] = []

    def watch(self, heard: Callable[[bytes], None]) -> Ear:
        self.heard.append(heard)
        return Ear()

    async def own(self) -> Mapping[bytes, bytes]:
        return {OWN: OURS}

    async def users(self, addresses: Collection[bytes]) -> Mapping[bytes, frozenset[bytes]]:
        await pass_time(0.1)
        self.asked += addresses
        return {each: frozenset(self.answering.get(each, ())) for each in addresses}

    def say(self, number: int | bytes, packet: Packet) -> None:
        source = hardware(number).hex(":")
        for heard in self.heard:
            heard(bytes(Ether(src=source, dst="ff:ff:ff:ff:ff:ff") / packet))

    def claim(self, number: int | bytes, address: str, *, answers: bool = True) -> None:
        """A machine says that it has an address, and answers for it."""
        if answers:
            self.answering.setdefault(parse_address(address), set()).add(hardware(number))
        if ":" in address:
            self.say(number, IPv6(src=address, dst="ff02::1", hlim=255) / ICMPv6ND_NA(tgt=address))
        else:
            self.say(number, ARP(op=2, hwsrc=hardware(number).hex(":"), psrc=address, pdst=address))

    def leave(self, number: int, address: str) -> None:
        self.answering[parse_address(address)].discard(hardware(number))

    def advertise(self, number: int, prefix: str = "", lifetime: int = 600) -> None:
        told = ICMPv6ND_RA(routerlifetime=lifetime)
        if prefix:
            told /= ICMPv6NDOptPrefixInfo(prefix=prefix, prefixlen=64, validlifetime=600, preferredlifetime=600)
        self.say(number, IPv6(src=f"fe80::{number:x}", dst="ff02::1", hlim=255) / told)

    def serve4(self, number: int, server: str) -> None:
        options = [("message-type", "offer"), ("server_id", server), "end"]
        udp = UDP(sport=67, dport=68) / BOOTP(op=2, chaddr=hardware(9)) / DHCP(options=options)
        self.say(number, IP(src=server, dst="255.255.255.255") / udp)

    def serve6(self, number: int, duid: bytes) -> None:
        """The server of this DUID answers a client."""
        told = DHCP6_Advertise(trid=1) / DHCP6OptServerId(duid=duid)
        self.say(number, IPv6(src=f"fe80::{number:x}", dst="fe80::9") / UDP(sport=547, dport=546) / told)

    @contextmanager
    def heard_by(self, place: int) -> Iterator[None]:
        """Only one of those that listen hears it, in the order in which they began to."""
        everybody = self.heard
        self.heard = [everybody[place]]
        yield
        self.heard = everybody

    def name6(self, duid: bytes) -> None:
        """A client asks the server of this DUID."""
        told = DHCP6_Renew(trid=1) / DHCP6OptServerId(duid=duid)
        self.say(9, IPv6(src="fe80::9", dst="ff02::1:2") / UDP(sport=546, dport=547) / told)


class Seat:
    """The same link for one agent, which has no address on it but a link-local one."""

    def __init__(self, segment: Segment, number: int) -> None:
        self._segment = segment
        self._number = number
        self._heard: Callable[[bytes], None] | None = None
        segment.answering[parse_address(f"fe80::{number:x}")] = {hardware(number)}

    def watch(self, heard: Callable[[bytes], None]) -> Ear:
        self._heard = heard
        return self._segment.watch(heard)

    async def own(self) -> Mapping[bytes, bytes]:
        return {parse_address(f"fe80::{self._number:x}"): hardware(self._number)}

    async def users(self, addresses: Collection[bytes]) -> Mapping[bytes, frozenset[bytes]]:
        source = hardware(self._number).hex(":")
        for each in addresses:
            if family(each) == 4:  # as the kernel's interface would have it, all others hear that
                asked = ARP(op=1, hwsrc=source, psrc="0.0.0.0", pdst=format_address(each))
                frame = bytes(Ether(src=source, dst="ff:ff:ff:ff:ff:ff") / asked)
                for heard in self._segment.heard:
                    if heard is not self._heard:
                        heard(frame)
        answers = await self._segment.users(addresses)
        return {each: several - {hardware(self._number)} for each, several in answers.items()}


class Ear:
    dropped: Counter[str] = Counter()

    def count(self) -> None: ...

    def close(self) -> None: ...


@asynccontextmanager
async def watching(books: Books, segment: Segment | Seat, *, servers: tuple[bytes, ...] = ()) -> AsyncIterator[Seeing]:
    agent = Seeing(books, segment, client_id=client_id)
    beside = (agent, Announcing(books, segment, servers=servers), Losing(books))
    tasks = [asyncio.create_task(each.run()) for each in beside]
    await pass_time(0.5)
    try:
        yield agent
        assert not any(task.done() for task in tasks)
    finally:
        for task in tasks:
            task.cancel()
            await asyncio.wait((task,))


class LoopClock(Clock):
    """A clock that goes on as the event loop's does."""

    def now(self) -> int:
        return super().now() + int(asyncio.get_running_loop().time() * 1_000_000)


@pytest.fixture
def clock() -> Clock:
    return LoopClock()


@pytest.fixture(autouse=True)
def hours(monkeypatch: pytest.MonkeyPatch) -> None:
    """A day is ten minutes, and a week an hour."""
    monkeypatch.setattr(sightings, "UNSEEN", UNSEEN)
    monkeypatch.setattr(sightings, "COUNTS", COUNTS)


@pytest.fixture
def segment() -> Segment:
    return Segment()


@pytest.fixture
async def agent(books: Books, segment: Segment) -> AsyncIterator[Seeing]:
    async with watching(books, segment) as agent:
        yield agent


def said(log: FrailLog, kind: type[E]) -> list[E]:
    return [event for event in log.events() if isinstance(event, kind)]


def raised(log: FrailLog) -> list[tuple[str, str]]:
    return [(event.alarm, format_address(event.address)) for event in said(log, AlarmRaised)]


def cleared(log: FrailLog) -> list[tuple[str, str, str]]:
    return [(event.alarm, format_address(event.address), event.why) for event in said(log, AlarmCleared)]
