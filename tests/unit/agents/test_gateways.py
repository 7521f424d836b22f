"""What an agent makes of the routers on its link, and what nodes are told then."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection

import pytest

from dnms.agents.subnet.books import Books
from dnms.agents.subnet.gateways import AT_MOST, COALESCE, LOOK, SILENT, Gateways
from dnms.domain.gateways import MAX_LEARNED
from dnms.events.gateway import GatewayAppeared, GatewayVanished
from dnms.events.ip import parse_address
from dnms.linux.advertisements import Heard
from dnms.linux.errors import KernelError
from dnms.wire.nd import RouterAdvertisement
from tests.unit.agents.conftest import PLAN, FrailLog, Node, Site
from tests.virtual_time import pass_time

ONE, TWO, FOUR, STRANGER = (parse_address(text) for text in ("fe80::1", "fe80::2", "192.0.2.1", "fe80::bad"))

TWO_GATEWAYS = PLAN.replace('"fe80::1", ', '"fe80::1", "fe80::2", ')
LEARNING = TWO_GATEWAYS.replace("prefixes", "learn_gateways = true\nprefixes", 1)


class Segment:
    """The link: who is there, and what routers say."""

    def __init__(self) -> None:
        self.there = {ONE, TWO, FOUR}
        self.down = False
        self.asked: list[set[bytes]] = []
        self.heard: Heard | None = None

    async def answering(self, addresses: Collection[bytes]) -> Collection[bytes]:
        if self.down:
            raise KernelError("down", "the link is down")
        self.asked.append(set(addresses))
        return self.there & set(addresses)

    def advertisements(self, heard: Heard) -> Segment:
        self.heard = heard
        return self

    def close(self) -> None:
        self.heard = None

    def advertise(self, router: bytes, lifetime: int, preference: int = 0) -> None:
        assert self.heard is not None
        self.heard(router, RouterAdvertisement(lifetime=lifetime, preference=preference))


@pytest.fixture
async def segment(books: Books) -> AsyncIterator[Segment]:
    segment = Segment()
    watching = asyncio.create_task(Gateways(books, segment).run())
    yield segment
    assert not watching.done()
    watching.cancel()
    await asyncio.wait((watching,))
    assert segment.heard is None


@pytest.fixture
async def node(books: Books) -> Node:
    node = Node(books, "web-1")
    await node.talk()
    return node


def said(log: FrailLog) -> list[GatewayAppeared | GatewayVanished]:
    return [event for event in log.events() if isinstance(event, GatewayAppeared | GatewayVanished)]


async def told(books: Books, node: Node) -> tuple[bytes, ...]:
    """The gateways that the node has, when it was told what it is due."""
    due = books.take_due()
    if due is None or node.client in due:
        await node.served.push()
    await node.talk()
    assert node.state.assignment is not None
    return node.state.assignment.gateways


async def test_a_gateway_that_went_is_told_last_and_first_again_when_it_is_back(
    site: Site, books: Books, log: FrailLog, node: Node, segment: Segment
) -> None:
    await site.apply(TWO_GATEWAYS)
    await pass_time(LOOK + 1)
    assert await told(books, node) == (ONE, TWO, FOUR)
    segment.there.remove(ONE)
    await pass_time((SILENT - 1) * LOOK)
    assert said(log) == []
    await pass_time(LOOK + 1)
    assert said(log) == [GatewayVanished(address=ONE, why="silent")]
    assert await told(books, node) == (TWO, FOUR, ONE)
    segment.there.add(ONE)
    await pass_time(2 * LOOK)
    assert said(log)[1:] == [GatewayAppeared(address=ONE)]
    assert await told(books, node) == (ONE, TWO, FOUR)


async def test_where_there_is_no_choice_nobody_is_asked(
    books: Books, log: FrailLog, node: Node, segment: Segment
) -> None:
    segment.there.clear()
    await pass_time(10 * LOOK)
    assert segment.asked == []
    assert said(log) == []


async def test_a_link_that_is_down_says_nothing_of_its_gateways(
    site: Site, books: Books, log: FrailLog, segment: Segment
) -> None:
    await site.apply(TWO_GATEWAYS)
    segment.down = True
    await pass_time(10 * LOOK)
    assert said(log) == []


async def test_a_router_that_advertises_itself_is_told_at_once_until_it_takes_leave(
    site: Site, books: Books, log: FrailLog, node: Node, segment: Segment
) -> None:
    await site.apply(LEARNING)
    await pass_time(LOOK + 1)
    segment.there.add(STRANGER)
    segment.advertise(STRANGER, 1800)
    await pass_time(COALESCE + 0.1)
    assert await told(books, node) == (ONE, TWO, FOUR, STRANGER)
    for _ in range(10):  # it says so again and again, and that is no news
        segment.advertise(STRANGER, 1800)
        await pass_time(100)
    assert len(said(log)) == 1
    segment.advertise(STRANGER, 0)
    await pass_time(COALESCE + 0.1)
    assert said(log)[1:] == [GatewayVanished(address=STRANGER, why="farewell")]
    assert await told(books, node) == (ONE, TWO, FOUR)


async def test_one_that_goes_as_soon_as_it_came_does_not_stay(
    site: Site, books: Books, log: FrailLog, segment: Segment
) -> None:
    await site.apply(LEARNING)
    await pass_time(LOOK + 1)
    segment.advertise(STRANGER, 1800)
    await pass_time(1)
    segment.advertise(STRANGER, 0)
    await pass_time(AT_MOST + LOOK)
    assert said(log)[1:] == [GatewayVanished(address=STRANGER, why="farewell")]


async def test_a_router_whose_advertisement_is_over_goes(
    site: Site, books: Books, log: FrailLog, segment: Segment
) -> None:
    await site.apply(LEARNING)
    await pass_time(LOOK + 1)
    segment.there.add(STRANGER)
    segment.advertise(STRANGER, 600)
    await pass_time(600 - 1)
    assert len(said(log)) == 1
    await pass_time(LOOK + 2)
    assert said(log)[1:] == [GatewayVanished(address=STRANGER, why="expired")]


async def test_who_says_this_and_that_is_recorded_now_and_then(
    site: Site, books: Books, log: FrailLog, segment: Segment
) -> None:
    await site.apply(LEARNING)
    await pass_time(LOOK + 1)
    for number in range(600):
        segment.advertise(STRANGER, 1800, number % 3 - 1)
        await pass_time(0.1)
    assert 1 <= len(said(log)) <= 60 / AT_MOST + 1


async def test_advertisements_are_heard_only_while_the_plan_says_so(
    site: Site, books: Books, log: FrailLog, segment: Segment
) -> None:
    await pass_time(LOOK + 1)
    assert segment.heard is None
    await site.apply(LEARNING)
    await pass_time(LOOK + 1)
    segment.advertise(STRANGER, 1800)
    await pass_time(1)
    assert list(books.ledger.gateways) == [STRANGER]
    await site.apply(TWO_GATEWAYS)
    await pass_time(LOOK + 1)
    assert segment.heard is None
    assert list(books.ledger.gateways) == []


async def test_of_two_agents_that_see_it_one_records_it(site: Site, books: Books, log: FrailLog) -> None:
    await site.apply(TWO_GATEWAYS)
    segment = Segment()
    segment.there.remove(TWO)
    async with site.agent("a2") as other:
        watching = [asyncio.create_task(Gateways(each, segment).run()) for each in (books, other)]
        await pass_time(SILENT * LOOK + 5)
        for each in watching:
            each.cancel()
        await asyncio.wait(watching)
    assert said(log) == [GatewayVanished(address=TWO, why="silent")]


async def test_while_the_log_is_away_it_goes_on_looking(
    site: Site, books: Books, log: FrailLog, segment: Segment
) -> None:
    await site.apply(TWO_GATEWAYS)
    await pass_time(LOOK + 1)
    log.cut = True
    segment.there.remove(TWO)
    await pass_time(10 * LOOK)
    assert said(log) == []
    log.cut = False
    await pass_time(10 * LOOK)
    assert said(log) == [GatewayVanished(address=TWO, why="silent")]


async def test_what_anybody_invents_is_not_asked_for_again_and_again(
    site: Site, books: Books, log: FrailLog, segment: Segment
) -> None:
    await site.apply(LEARNING)
    await pass_time(LOOK + 1)
    before = len(log.records)
    for number in range(1_000):
        segment.advertise(parse_address(f"fe80::{number:x}:0"), 9_000)
        segment.advertise(ONE, 1800, 1)
        await pass_time(1)
    learned = [event for event in said(log) if isinstance(event, GatewayAppeared)]
    assert len(learned) == MAX_LEARNED
    assert len(log.records) - before <= 2 * MAX_LEARNED + 1  # and those that do not answer
