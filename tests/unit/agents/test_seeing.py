"""What agents tell the ledger of who is there: once, however many see it, and not too much of it."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import AsyncExitStack

import pytest
from scapy.layers.inet6 import ICMPv6ND_NS, IPv6

from dnms.agents.subnet import seeing, seeing_owners, seeing_table
from dnms.agents.subnet.announcing import LOOK as ANNOUNCE
from dnms.agents.subnet.announcing import Losing
from dnms.agents.subnet.books import Books
from dnms.agents.subnet.seeing import LOOK, LOSE, Seeing
from dnms.agents.subnet.seeing_table import MAX_A_MACHINE, SETTLE
from dnms.domain import sightings
from dnms.events.ip import format_address, parse_address
from dnms.events.link import AddressSighted, AddressVanished, AgentAnnounced
from dnms.events.node import NodeIdentified
from dnms.events.requests import AllocateAddress, HoldAddress, ReleaseAddress
from tests.unit.agents.conftest import FrailLog, Node, Site
from tests.unit.agents.seen_link import (
    COUNTS,
    POOLED,
    SLAAC,
    SOON,
    UNSEEN,
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


async def test_an_address_that_a_machine_makes_later_is_guessed_to_be_temporary(
    agent: Seeing, segment: Segment, log: FrailLog
) -> None:
    for last in ("def0", "def1", "def2"):
        segment.claim(1, SLAAC.replace("def0", last))
        await pass_time(seeing.TOGETHER if last == "def1" else SOON)
    assert [event.lasting for event in said(log, AddressSighted)] == ["unknown", "unknown", "temporary"]


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


async def test_what_a_machine_had_before_its_agent_came_is_its_own(
    agent: Seeing, segment: Segment, books: Books, log: FrailLog
) -> None:
    node = Node(books, "web-1")
    own = node.duid[:6]
    segment.claim(own, POOLED)
    await pass_time(60)
    await node.talk()
    assert await books.hardware(node.client) == {own}
    segment.claim(own, POOLED)
    await pass_time(SOON)
    assert [event.client for event in said(log, AddressSighted)] == [client(own), node.client]
    [*_, given] = await books.decide(
        HoldAddress(client=node.client, iaid=9, family=4, address=parse_address(POOLED)),
    )
    assert given.NAME == "address.held"
    [*_, given] = await books.decide(AllocateAddress(client=node.client, iaid=9, family=4))
    assert format_address(given.address) == POOLED  # type: ignore[attr-defined]


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
