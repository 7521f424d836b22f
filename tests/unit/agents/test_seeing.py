"""What agents tell the ledger of what they see, in virtual time: once, however many see it, and not too much of it."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TypeVar

import pytest
from scapy.layers.dhcp import BOOTP, DHCP
from scapy.layers.dhcp6 import DHCP6_Renew, DHCP6OptServerId
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import ICMPv6ND_NA, ICMPv6ND_NS, ICMPv6ND_RA, ICMPv6NDOptPrefixInfo, IPv6
from scapy.layers.l2 import ARP, Ether
from scapy.packet import Packet

from dnms.agents.subnet import seeing, seeing_owners, seeing_table
from dnms.agents.subnet.announcing import LOOK as ANNOUNCE
from dnms.agents.subnet.announcing import Announcing, Losing
from dnms.agents.subnet.books import Books
from dnms.agents.subnet.seeing import LOOK, LOSE, Seeing
from dnms.agents.subnet.seeing_alarms import MOVED_STAYS, RECHECK
from dnms.agents.subnet.seeing_table import MAX_A_MACHINE, SERVER_STAYS, SETTLE
from dnms.domain import sightings
from dnms.domain.identity import duid_of_hardware
from dnms.events.ip import format_address, parse_address
from dnms.events.link import AddressSighted, AddressVanished, AgentAnnounced, AlarmCleared, AlarmRaised
from dnms.events.node import NodeIdentified
from dnms.events.recorded import Event
from dnms.events.requests import AllocateAddress, AnnounceAgent, ReleaseAddress
from tests.unit.agents.conftest import PLAN, Clock, FrailLog, Node, Site, client_id
from tests.virtual_time import pass_time

E = TypeVar("E", bound=Event)

OURS, OWN = bytes([2, 0, 0, 0, 0, 0xEE]), parse_address("192.0.2.1")
SLAAC, POOLED = "2001:db8:2:3:1234:5678:9abc:def0", "192.0.2.5"
SOON = 3 * LOOK
UNSEEN, COUNTS = 600, 3_600


def hardware(number: int | bytes) -> bytes:
    return number if isinstance(number, bytes) else bytes([2, 0, 0]) + number.to_bytes(3)


def client(number: int) -> bytes:
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
        await asyncio.sleep(0.1)
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

    def name6(self, duid: bytes) -> None:
        """A client asks the server of this DUID."""
        told = DHCP6_Renew(trid=1) / DHCP6OptServerId(duid=duid)
        self.say(9, IPv6(src="fe80::9", dst="ff02::1:2") / UDP(sport=546, dport=547) / told)


class Ear:
    dropped: Counter[str] = Counter()

    def count(self) -> None: ...

    def close(self) -> None: ...


@asynccontextmanager
async def watching(books: Books, segment: Segment, *, servers: tuple[bytes, ...] = ()) -> AsyncIterator[Seeing]:
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


async def test_a_machine_is_identified_and_its_address_recorded_once(
    agent: Seeing, segment: Segment, log: FrailLog
) -> None:
    for _ in range(100):
        segment.claim(1, SLAAC)
        await pass_time(10)
    [seen] = said(log, AddressSighted)
    assert (seen.address, seen.client, seen.form) == (parse_address(SLAAC), client(1), "random")
    [known] = said(log, NodeIdentified)
    assert known.client == client(1)
    assert log.keys.open(known).hardware[0].value == hardware(1)


async def test_a_probe_to_which_nobody_objects_is_seen(agent: Seeing, segment: Segment, log: FrailLog) -> None:
    segment.say(1, IPv6(src="::", dst="ff02::1:ff00:1", hlim=255) / ICMPv6ND_NS(tgt=SLAAC))
    await pass_time(SETTLE)
    assert not said(log, AddressSighted)
    await pass_time(SOON)
    assert [event.client for event in said(log, AddressSighted)] == [client(1)]


async def test_two_agents_that_see_the_same_write_it_once(site: Site, segment: Segment, log: FrailLog) -> None:
    async with AsyncExitStack() as stack:
        for name in ("a1", "a2"):
            books = await stack.enter_async_context(site.agent(name))
            await stack.enter_async_context(watching(books, segment))
        for number in range(1, 20):
            segment.claim(number, f"fe80::{number:x}")
        segment.claim(30, POOLED)
        segment.advertise(40)
        await pass_time(2 * SOON)
        segment.claim(31, POOLED)
        await pass_time(SETTLE + SOON)
        segment.advertise(40, lifetime=0)
        await pass_time(SOON)
    assert len(said(log, AddressSighted)) == len({event.address for event in said(log, AddressSighted)}) == 21
    assert Counter(raised(log)) == {("router", "fe80::28"): 1, ("duplicate", POOLED): 1}
    assert cleared(log) == [("router", "fe80::28", "over")]
    assert {event.agent for event in said(log, AgentAnnounced)} == {"a1", "a2"}


async def test_an_address_of_a_pool_that_nobody_answers_for_is_not_kept_from_others(
    agent: Seeing, segment: Segment, log: FrailLog
) -> None:
    segment.claim(1, POOLED, answers=False)
    await pass_time(SOON)
    assert parse_address(POOLED) in segment.asked
    assert not said(log, AddressSighted)
    segment.claim(1, POOLED)
    await pass_time(60)
    segment.claim(1, POOLED)
    await pass_time(SOON)
    assert [event.address for event in said(log, AddressSighted)] == [parse_address(POOLED)]


async def test_what_the_ledger_gave_is_nothing_new_and_still_none_when_it_is_given_back(
    agent: Seeing, segment: Segment, books: Books, log: FrailLog
) -> None:
    [event] = await books.decide(AllocateAddress(client=client(1), iaid=1, family=4))
    address = event.address  # type: ignore[attr-defined]
    segment.claim(1, format_address(address))
    await pass_time(60)
    segment.claim(1, format_address(address))
    await books.decide(ReleaseAddress(client=client(1), iaid=1, address=address))
    segment.leave(1, format_address(address))
    await pass_time(60)
    assert not said(log, AddressSighted)


async def test_a_node_with_an_agent_tells_its_addresses_itself(
    agent: Seeing, segment: Segment, books: Books, log: FrailLog
) -> None:
    node = Node(books, "web-1")
    await node.talk()
    before = len(said(log, NodeIdentified))
    [own] = await books.hardware(node.client)
    segment.claim(own, SLAAC)
    await pass_time(SOON)
    assert not said(log, AddressSighted)
    assert len(said(log, NodeIdentified)) == before


async def test_an_address_vanishes_a_day_after_it_was_seen_unless_it_answers(
    agent: Seeing, segment: Segment, log: FrailLog
) -> None:
    segment.claim(1, SLAAC)
    segment.claim(2, "fe80::2")
    await pass_time(SOON)
    segment.leave(1, SLAAC)
    await pass_time(UNSEEN - 60)
    assert not said(log, AddressVanished)
    await pass_time(60 + 2 * LOSE)
    assert [event.client for event in said(log, AddressVanished)] == [client(1)]
    await pass_time(2 * UNSEEN)
    assert len(said(log, AddressVanished)) == 1
    assert len(said(log, AddressSighted)) == 2
    await pass_time(COUNTS)
    assert {event.client for event in said(log, AddressSighted)[2:]} == {client(2)}  # that it is there still
    assert len(said(log, AddressSighted)) <= 2 + 3


async def test_where_nobody_watches_any_more_what_was_seen_ends_after_a_week(
    site: Site, books: Books, segment: Segment, log: FrailLog
) -> None:
    async with watching(books, segment):
        segment.claim(1, SLAAC)
        await pass_time(SOON)
    losing = asyncio.create_task(Losing(books).run())
    await pass_time(COUNTS + 2 * ANNOUNCE)
    losing.cancel()
    await asyncio.wait((losing,))
    assert len(said(log, AddressVanished)) == 1


async def test_a_flood_of_invented_machines_fills_neither_log_nor_ledger(
    segment: Segment, books: Books, log: FrailLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(seeing_owners, "MACHINES_AT_ONCE", 20)
    async with watching(books, segment) as agent:
        for number in range(1, 400):
            segment.claim(number, f"fe80::{number:x}", answers=False)
            if number % 20 == 0:
                await pass_time(LOOK)
        await pass_time(60)
        assert len(said(log, NodeIdentified)) <= 20 + 10
        assert len(said(log, AddressSighted)) <= 20 + 10
        assert agent.dropped["too-many-machines"] > 200


async def test_what_is_forgotten_in_a_flood_while_the_link_is_asked_does_no_harm(
    segment: Segment, books: Books, log: FrailLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(seeing_table, "MAX_ADDRESSES", 10)
    async with watching(books, segment):
        for number in range(1, 500):
            segment.claim(number, f"2001:db8:1:1::{number:x}")
            segment.claim(number + 500, f"2001:db8:1:1:1::{number:x}")
            if number % 3 == 0:
                segment.claim(number + 1_000, f"2001:db8:1:1::{number:x}")
            await pass_time(0.01)
        await pass_time(SETTLE + SOON)
    assert said(log, AddressSighted)


async def test_a_machine_that_says_that_it_has_everything_is_seen_with_a_few(
    segment: Segment, books: Books, log: FrailLog
) -> None:
    async with watching(books, segment):
        for number in range(1, 200):
            segment.claim(1, f"fe80::{number:x}", answers=False)
        await pass_time(SOON)
    assert len(said(log, AddressSighted)) == MAX_A_MACHINE


async def test_nothing_more_is_asked_of_a_ledger_that_is_full(
    segment: Segment, books: Books, log: FrailLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sightings, "MAX_SIGHTED", 3)
    async with watching(books, segment) as agent:
        for number in range(1, 9):
            segment.claim(number, f"fe80::{number:x}")
            await pass_time(LOOK)
        assert len(said(log, AddressSighted)) == 3
        assert agent.dropped["too-many-sightings"] > 0


async def test_what_is_seen_while_the_log_is_away_is_recorded_when_it_is_back(
    agent: Seeing, segment: Segment, log: FrailLog
) -> None:
    log.cut = True
    segment.claim(1, SLAAC)
    await pass_time(SOON)
    log.cut = False
    await pass_time(2 * seeing.LATER)
    assert len(said(log, AddressSighted)) == 1


# -- alarms


async def test_a_duplicate_is_told_of_until_one_is_left(agent: Seeing, segment: Segment, log: FrailLog) -> None:
    segment.claim(1, SLAAC)
    await pass_time(SOON)
    segment.claim(2, SLAAC)
    await pass_time(SETTLE + SOON)
    [alarm] = said(log, AlarmRaised)
    assert (alarm.alarm, alarm.client, alarm.other) == ("duplicate", client(2), client(1))
    await pass_time(3 * RECHECK)
    segment.claim(1, SLAAC)
    segment.claim(2, SLAAC)
    await pass_time(3 * RECHECK)
    assert not cleared(log)
    segment.leave(1, SLAAC)
    await pass_time(RECHECK + SOON)
    assert cleared(log) == [("duplicate", SLAAC, "over")]
    assert len(raised(log)) == 1


async def test_who_has_an_address_of_this_machine_is_told_of(agent: Seeing, segment: Segment, log: FrailLog) -> None:
    segment.claim(1, format_address(OWN))
    await pass_time(SETTLE + SOON)
    assert raised(log) == [("duplicate", format_address(OWN))]
    assert not said(log, AddressSighted)


async def test_a_move_is_told_of_for_a_while(agent: Seeing, segment: Segment, log: FrailLog) -> None:
    segment.claim(1, SLAAC)
    await pass_time(SOON)
    segment.leave(1, SLAAC)
    segment.claim(2, SLAAC)
    await pass_time(SETTLE + SOON)
    assert raised(log) == [("moved", SLAAC)]
    assert [(event.client) for event in said(log, AddressSighted)] == [client(1), client(2)]
    await pass_time(MOVED_STAYS + SOON)
    assert cleared(log) == [("moved", SLAAC, "over")]


async def test_an_address_that_the_ledger_gave_to_another_has_not_moved(
    agent: Seeing, segment: Segment, books: Books, log: FrailLog
) -> None:
    segment.claim(1, POOLED)
    segment.leave(1, POOLED)
    await pass_time(SOON)
    for number in range(2, 12):
        [*_, event] = await books.decide(AllocateAddress(client=client(number), iaid=1, family=4))
        given: bytes = event.address  # type: ignore[attr-defined]
        segment.claim(1, format_address(given), answers=False)
        await pass_time(LOOK)
        segment.claim(number, format_address(given))
    await pass_time(SETTLE + SOON)
    assert not raised(log)


@pytest.mark.parametrize(
    ("plan", "number", "prefix", "why"),
    [
        (PLAN, 1, "", ""),  # fe80::1 is a gateway
        (PLAN, 0xBAD, "", "not-planned"),
        (PLAN.replace("gateways", "learn_gateways = true\ngateways", 1), 0xBAD, "2001:db8:1:1::", ""),
        (PLAN.replace("gateways", "learn_gateways = true\ngateways", 1), 0xBAD, "2001:db8:bad::", "foreign-prefix"),
    ],
)
async def test_a_router_is_strange_where_the_plan_knows_nothing_of_it(
    *, site: Site, agent: Seeing, segment: Segment, log: FrailLog, plan: str, number: int, prefix: str, why: str
) -> None:
    await site.apply(plan)
    segment.advertise(number, prefix)
    await pass_time(SOON)
    assert [event.why for event in said(log, AlarmRaised)] == ([why] if why else [])


async def test_a_gateway_that_is_planned_by_another_address_is_no_stranger(
    site: Site, agent: Seeing, segment: Segment, log: FrailLog
) -> None:
    await site.apply(PLAN.replace('"fe80::1"', '"2001:db8:1:1::1"'))
    segment.answering[parse_address("2001:db8:1:1::1")] = {hardware(0xBAD)}
    segment.advertise(0xBAD)
    await pass_time(SOON)
    assert not raised(log)


async def test_a_router_that_says_nothing_is_none(agent: Seeing, segment: Segment, log: FrailLog) -> None:
    segment.advertise(0xBAD, lifetime=0)
    await pass_time(SOON)
    assert not raised(log)


async def test_a_dhcp_server_is_strange_until_the_plan_names_it(
    site: Site, agent: Seeing, segment: Segment, log: FrailLog
) -> None:
    segment.serve4(7, format_address(OWN))
    segment.serve4(8, "192.0.2.9")
    await pass_time(SOON)
    assert raised(log) == [("dhcp-server", "192.0.2.9")]
    await site.apply(PLAN.replace("dns =", 'dhcp_servers = ["192.0.2.9"]\ndns =', 1))
    await pass_time(SOON)
    assert cleared(log) == [("dhcp-server", "192.0.2.9", "planned")]


async def test_a_dhcp_server_that_is_heard_no_more_is_over_after_an_hour(
    agent: Seeing, segment: Segment, log: FrailLog
) -> None:
    segment.serve4(8, "192.0.2.9")
    await pass_time(SERVER_STAYS - 60)
    assert not cleared(log)
    await pass_time(120)
    assert cleared(log) == [("dhcp-server", "192.0.2.9", "over")]


async def test_servers_of_dhcpv6_are_known_by_what_clients_call_them(
    site: Site, segment: Segment, books: Books, log: FrailLog
) -> None:
    ours, other, strange = (b"\0\4" + bytes([n]) * 16 for n in (1, 2, 3))
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(watching(books, segment, servers=(client_id(ours),)))
        second = await stack.enter_async_context(site.agent("a2"))
        await stack.enter_async_context(watching(second, segment, servers=(client_id(other),)))
        await pass_time(ANNOUNCE)
        for duid in (ours, other, strange):
            segment.name6(duid)
        await pass_time(SOON)
        [alarm] = said(log, AlarmRaised)
        assert (alarm.alarm, alarm.address, alarm.client) == ("dhcp-server", bytes(16), client_id(strange))


async def test_where_another_serves_while_dnms_only_observes_nobody_is_a_stranger(
    site: Site, agent: Seeing, segment: Segment, log: FrailLog
) -> None:
    await site.apply(PLAN.replace("dns =", 'policy = { mode = "observe" }\ndns =', 1))
    segment.serve4(8, "192.0.2.9")
    await pass_time(SOON)
    assert not raised(log)


async def test_who_looks_through_a_prefix_is_told_of_unless_it_is_an_agent(
    agent: Seeing, segment: Segment, books: Books, log: FrailLog
) -> None:
    await books.decide(AnnounceAgent(agent="a2", addresses=(parse_address("2001:db8:1:1::e"),)))
    for source, count in (("2001:db8:1:1::e", 0), ("192.0.2.3", 0), ("2001:db8:1:1::3", 1)):
        for number in range(200):
            asked: Packet
            if ":" in source:
                asked = IPv6(src=source, dst="ff02::1", hlim=255) / ICMPv6ND_NS(tgt=f"2001:db8:1:1::{number + 99:x}")
            else:
                asked = ARP(op=1, hwsrc=hardware(3).hex(":"), psrc=source, pdst=f"192.0.2.{number % 14}")
            segment.say(3, asked)
        await pass_time(SOON)
        assert len(raised(log)) == count
    assert raised(log) == [("scan", "2001:db8:1:1::")]
    assert said(log, AlarmRaised)[0].client == client(3)
    await pass_time(600)
    assert cleared(log) == [("scan", "2001:db8:1:1::", "over")]
