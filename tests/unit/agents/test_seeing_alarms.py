"""What agents find wrong on a link: told once, and taken back when it is over."""

from __future__ import annotations

from contextlib import AsyncExitStack

import pytest
from scapy.layers.inet6 import ICMPv6ND_NS, IPv6
from scapy.layers.l2 import ARP
from scapy.packet import Packet

from dnms.agents.subnet.announcing import LOOK as ANNOUNCE
from dnms.agents.subnet.books import Books
from dnms.agents.subnet.seeing import LOOK, Seeing
from dnms.agents.subnet.seeing_alarms import MOVED_STAYS, RECHECK
from dnms.agents.subnet.seeing_table import SERVER_STAYS, SETTLE
from dnms.events.ip import format_address, parse_address
from dnms.events.link import AddressSighted, AlarmRaised
from dnms.events.requests import AllocateAddress, AnnounceAgent
from tests.unit.agents.conftest import PLAN, FrailLog, Site, client_id
from tests.unit.agents.seen_link import (
    OWN,
    POOLED,
    SLAAC,
    SOON,
    Segment,
    agent,
    cleared,
    client,
    clock,
    hardware,
    hours,
    raised,
    said,
    segment,
    watching,
)
from tests.virtual_time import pass_time

__all__ = ["agent", "clock", "hours", "segment"]


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
