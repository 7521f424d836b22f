"""What several agents of a link find wrong there, of which each hears a little else: one alarm for one thing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest

from dnms.agents.subnet.announcing import LOOK as ANNOUNCE
from dnms.agents.subnet.announcing import SOON as ANNOUNCE_SOON
from dnms.agents.subnet.announcing import Announcing
from dnms.agents.subnet.books import Books
from dnms.agents.subnet.seeing_table import SETTLE
from dnms.events.link import AgentAnnounced
from tests.unit.agents.conftest import FrailLog, Site
from tests.unit.agents.seen_link import (
    SOON,
    Seat,
    Segment,
    clock,
    hours,
    raised,
    said,
    segment,
    watching,
)
from tests.virtual_time import pass_time

__all__ = ["clock", "hours", "segment"]


@pytest.fixture
async def two(site: Site, segment: Segment, books: Books) -> AsyncIterator[None]:
    """Two agents watch the link. Each has a hardware address of its own there, and no IPv4 address."""
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(watching(books, Seat(segment, 0xA1)))
        second = await stack.enter_async_context(site.agent("a2"))
        await stack.enter_async_context(watching(second, Seat(segment, 0xA2)))
        await pass_time(SOON)
        yield


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
