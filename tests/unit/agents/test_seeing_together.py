"""What several agents of a link find wrong there, of which each hears a little else: one alarm for one thing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest
from scapy.layers.inet6 import ICMPv6ND_NS, IPv6

from dnms.agents.subnet.announcing import LOOK as ANNOUNCE
from dnms.agents.subnet.announcing import SOON as ANNOUNCE_SOON
from dnms.agents.subnet.announcing import Announcing
from dnms.agents.subnet.books import Books
from dnms.agents.subnet.seeing_alarms import STAYS
from dnms.agents.subnet.seeing_table import ROUTER_STAYS, SCAN, SERVER_STAYS, SETTLE
from dnms.events.link import AgentAnnounced, AlarmRaised
from dnms.events.node import NodeIdentified
from tests.unit.agents.conftest import FrailLog, Site, client_id
from tests.unit.agents.seen_link import (
    SOON,
    Seat,
    Segment,
    cleared,
    clock,
    hours,
    raised,
    said,
    segment,
    watching,
)
from tests.virtual_time import pass_time

__all__ = ["clock", "hours", "segment"]

STRANGE = b"\0\4" + bytes([3]) * 16
FIRST, SECOND = 0, 1


@pytest.fixture
async def two(site: Site, segment: Segment, books: Books) -> AsyncIterator[None]:
    """Two agents watch the link. Each has a hardware address of its own there, and no IPv4 address."""
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(watching(books, Seat(segment, 0xA1)))
        second = await stack.enter_async_context(site.agent("a2"))
        await stack.enter_async_context(watching(second, Seat(segment, 0xA2)))
        await pass_time(SOON)
        yield


def scan(segment: Segment) -> None:
    for number in range(64):
        segment.say(3, IPv6(src="fe80::3", dst="ff02::1", hlim=255) / ICMPv6ND_NS(tgt=f"2001:db8:1:1::{number + 99:x}"))


@pytest.mark.usefixtures("two")
async def test_a_server_that_one_hears_and_the_other_hears_of_is_one(segment: Segment, log: FrailLog) -> None:
    with segment.heard_by(FIRST):
        segment.name6(STRANGE)
    await pass_time(SOON)
    with segment.heard_by(SECOND):
        segment.serve6(7, STRANGE)
    await pass_time(SOON)
    with segment.heard_by(FIRST):
        segment.serve6(7, STRANGE)
    await pass_time(SERVER_STAYS - 60)
    assert raised(log) == [("dhcp-server", "::")]
    assert not cleared(log)
    await pass_time(120)
    assert raised(log) == [("dhcp-server", "::")]
    assert cleared(log) == [("dhcp-server", "::", "over")]


@pytest.mark.usefixtures("two")
async def test_a_server_that_is_named_alone_is_a_node_with_its_duid(segment: Segment, log: FrailLog) -> None:
    segment.name6(STRANGE)
    await pass_time(SOON)
    [alarm] = said(log, AlarmRaised)
    [known] = [event for event in said(log, NodeIdentified) if event.client == alarm.client == client_id(STRANGE)]
    assert log.keys.open(known.duid).value == STRANGE


@pytest.mark.usefixtures("two")
async def test_what_one_heard_last_is_not_raised_again_when_the_other_has_cleared_it(
    segment: Segment, log: FrailLog
) -> None:
    with segment.heard_by(FIRST):
        scan(segment)
    await pass_time(SCAN / 2)
    with segment.heard_by(SECOND):
        scan(segment)
    await pass_time(7 * SCAN)
    assert raised(log) == [("scan", "2001:db8:1:1::")]
    assert cleared(log) == [("scan", "2001:db8:1:1::", "over")]
    scan(segment)
    await pass_time(SOON)
    assert raised(log) == 2 * [("scan", "2001:db8:1:1::")]  # and what is heard then is new


@pytest.mark.usefixtures("two")
async def test_who_never_heard_of_it_does_not_clear_what_another_one_hears(segment: Segment, log: FrailLog) -> None:
    await pass_time(ROUTER_STAYS + SOON)
    for _ in range(20):
        with segment.heard_by(FIRST):
            segment.advertise(0xBAD)
        await pass_time(STAYS["router"] / 30)
    assert raised(log) == [("router", "fe80::bad")]
    assert not cleared(log)


@pytest.mark.usefixtures("two")
async def test_a_question_of_an_agent_is_no_claim(segment: Segment, log: FrailLog) -> None:
    for number in range(1, 5):
        segment.claim(number, f"192.0.2.{number + 4}")
        await pass_time(SETTLE + SOON)
    assert not raised(log)
    segment.claim(9, "192.0.2.5")
    await pass_time(SETTLE + SOON)
    assert raised(log) == [("duplicate", "192.0.2.5")]


async def test_an_agent_that_does_not_watch_announces_itself_where_another_one_does(
    site: Site, segment: Segment, books: Books, log: FrailLog
) -> None:
    announcing = asyncio.create_task(Announcing(books, Seat(segment, 0xA1), first=False).run())
    await pass_time(2 * ANNOUNCE)
    assert not said(log, AgentAnnounced)
    async with site.agent("a2") as second, watching(second, Seat(segment, 0xA2)):
        await pass_time(2 * ANNOUNCE_SOON)
        assert {event.agent for event in said(log, AgentAnnounced)} == {"a1", "a2"}
    announcing.cancel()
    await asyncio.wait((announcing,))
