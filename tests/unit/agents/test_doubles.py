"""Two Subnet Agents of one subnet with one name: each takes the other for what it was before it was started anew."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from dnms.agents.subnet.books import ABANDONED, Books
from dnms.bus.append import append
from dnms.bus.port import Doubled, LogError
from dnms.events import codec, subjects
from dnms.events.commit import Commit
from dnms.events.ip import parse_address
from dnms.events.recorded import Event
from dnms.events.seen import SessionClosed, SessionOpened
from tests.unit.agents.conftest import SECRET, SITE, SUBNET, Clock, FrailLog, Node, Site, until

ALICE, BOB = bytes([0xA]) * 16, bytes([0xB]) * 16
PEER = parse_address("fe80::5")


class Twin:
    """Books under a name that others have too, and how they ended."""

    def __init__(self, log: FrailLog, clock: Clock, seed: int) -> None:
        draw = random.Random(seed).randbytes
        self.books = Books(log, site=SITE, secret=SECRET, subnet=SUBNET, agent="a1", now=clock.now, random=draw)
        self.running = asyncio.create_task(self.books.run())

    async def ends(self) -> str:
        """Wait for the clear error that it ends with."""
        with pytest.raises(BaseExceptionGroup) as ended:
            async with asyncio.timeout(60):
                await asyncio.shield(self.running)
        assert ended.group_contains(Doubled)
        return str(ended.value.exceptions[0])


@asynccontextmanager
async def started(log: FrailLog, clock: Clock, seed: int) -> AsyncIterator[Twin]:
    twin = Twin(log, clock, seed)
    try:
        await until(twin.books.caught_up.is_set)
        yield twin
    finally:
        twin.running.cancel()
        await asyncio.wait((twin.running,))


def sessions(log: FrailLog) -> list[Event]:
    return [event for event in log.events() if isinstance(event, SessionOpened | SessionClosed)]


async def test_the_newer_one_stays_and_the_older_one_ends_with_a_clear_error(
    site: Site, log: FrailLog, clock: Clock
) -> None:
    async with started(log, clock, 1) as older:
        await older.books.observe(SessionOpened(client=ALICE, peer=PEER))
        async with started(log, clock, 2) as newer:
            assert "'a1'" in (said := await older.ends())
            assert "give one of the two another --name" in said
            with pytest.raises(LogError):
                await older.books.observe(SessionOpened(client=BOB, peer=PEER))
            await newer.books.observe(SessionOpened(client=ALICE, peer=PEER))  # the node has come over
            assert not newer.running.done()
    opened = SessionOpened(client=ALICE, peer=PEER)
    assert sessions(log) == [opened, SessionClosed(client=ALICE, why=ABANDONED), opened]


async def test_of_two_that_have_nothing_to_tell_yet_one_stays(site: Site, log: FrailLog, clock: Clock) -> None:
    async with started(log, clock, 1) as one, started(log, clock, 2) as other:
        await one.books.observe(SessionOpened(client=ALICE, peer=PEER))
        # The other takes that for a session of its former self, which has ended; the one sees what it writes.
        await one.ends()
        await other.books.observe(SessionOpened(client=BOB, peer=PEER))
        assert not other.running.done()


async def test_of_two_that_write_at_once_one_ends(site: Site, log: FrailLog, clock: Clock) -> None:
    async with started(log, clock, 1) as one, started(log, clock, 2) as other:
        opening = (
            each.books.observe(SessionOpened(client=client, peer=PEER)) for each, client in ((one, ALICE), (other, BOB))
        )
        await asyncio.gather(*opening, return_exceptions=True)
        await until(lambda: one.running.done() or other.running.done(), seconds=60)
        ended, stays = (one, other) if one.running.done() else (other, one)
        await ended.ends()
        await asyncio.gather(*(stays.books.observe(SessionOpened(client=bytes([n]) * 16, peer=PEER)) for n in range(9)))
        assert not stays.running.done()


async def test_who_was_killed_starts_at_once_and_a_late_write_of_its_former_self_is_no_double(
    site: Site, log: FrailLog, clock: Clock
) -> None:
    async with started(log, clock, 1) as killed:
        await killed.books.observe(SessionOpened(client=ALICE, peer=PEER))
    subject = subjects.seen(SITE, SUBNET, "a1")
    last = max(record.sequence for record in log.records if record.subject == subject)
    log.cut = True  # it had this under way, and what comes after it cannot be written before
    async with started(log, clock, 2) as again:
        log.cut = False
        late = Commit(
            id=random.randbytes(16),
            time=clock.now(),
            predecessor=last,
            actor="agent/a1",
            events=(SessionOpened(client=BOB, peer=PEER),),
        )
        await append(log, subject, codec.encode(late), expected=last)
        await again.books.settled()
        await again.books.observe(SessionOpened(client=ALICE, peer=PEER))
        assert not again.running.done()
    ended = {event.client: event.why for event in log.events() if isinstance(event, SessionClosed)}
    assert ended == {ALICE: ABANDONED, BOB: ABANDONED}


async def test_what_it_wrote_itself_is_no_double_however_late_the_answer_is(
    site: Site, books: Books, log: FrailLog
) -> None:
    for number in range(20):
        await Node(books, f"web-{number}").talk()
    assert len({event.client for event in log.events() if isinstance(event, SessionOpened)}) == 20
