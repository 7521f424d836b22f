"""A Subnet Agent that does not have the whole log answers nothing, writes nothing, and takes nothing from a node."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine, Sequence
from contextlib import aclosing, asynccontextmanager
from typing import Any, NoReturn

import pytest
from structlog.testing import capture_logs

from dnms.agents.subnet import agent as shell
from dnms.agents.subnet.books import Books
from dnms.agents.subnet.served import Introduction
from dnms.agents.subnet.sessions import Sessions
from dnms.bus.port import Batch, LogDamaged, Record
from dnms.domain.aggregate import ChainBroken
from dnms.events import subjects
from dnms.events.address import AddressAllocated, AddressWithdrawn
from dnms.events.recorded import Event
from dnms.kit.clock import MICROSECONDS
from dnms.wire import node_events
from dnms.wire.messages import Offer
from tests.unit.agents.conftest import PLAN, SECRET, SITE, SUBNET, Clock, FrailLog, Node, Site, until
from tests.virtual_time import pass_time

HOUR = 3_600
WITHOUT_IPV4 = PLAN[: PLAN.index('[[pool]]\nname = "office-v4"')]


class Partial(FrailLog):
    """A log that brings some of its messages alone."""

    withheld: frozenset[int] = frozenset()
    says_so = True  # that there is more; else it skips them in silence

    async def follow(self, subjects: Sequence[str], *, after: int = 0) -> AsyncGenerator[Batch, None]:
        async with aclosing(super().follow(subjects, after=after)) as batches:
            async for batch in batches:
                come = tuple(record for record in batch.records if record.sequence not in self.withheld)
                yield Batch(come, caught_up=batch.caught_up and not self.says_so)


def copied(log: FrailLog, records: Sequence[Record], clock: Clock) -> Partial:
    """Another server with these messages of a log, under its name."""
    other = Partial(SITE, log_id=log.log_id, now=clock.now)
    other.says_so = False
    other.records = list(records)
    for record in records:
        other._sequences.setdefault(record.subject, []).append(record.sequence)
    return other


@pytest.fixture
async def node(site: Site, books: Books) -> Node:
    """A node with an address of each family, given by an agent that saw the whole log."""
    joined = Node(books, "web-1")
    await joined.talk()
    assert len(joined.addresses) == 2
    return joined


def books_on(log: FrailLog, clock: Clock) -> Books:
    return Books(
        log, site=SITE, secret=SECRET, subnet=SUBNET, agent="a2", now=clock.now, random=random.Random(2).randbytes
    )


@asynccontextmanager
async def running(work: Coroutine[Any, Any, None]) -> AsyncIterator[asyncio.Task[None]]:
    task = asyncio.create_task(work)
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.wait((task,))


class Unseen:
    """A link at which an agent must not look."""

    def __getattr__(self, name: str) -> NoReturn:
        raise AssertionError(f"it looked at its link: {name}")


async def serve(books: Books) -> None:
    """What the agent's shell does beside its books, up to its first look at the link."""
    offer = Offer(nonce=bytes(16), site=SITE, subnet=SUBNET, agent="a2", endpoints=())
    sessions = Sessions(books, Introduction("a2", SITE, SUBNET), client_id=bytes)
    link: Any = Unseen()
    await shell._serve(link, 0, offer, books, sessions)


async def test_until_the_end_of_the_log_has_come_it_neither_listens_nor_writes(
    site: Site, node: Node, log: FrailLog, clock: Clock
) -> None:
    """However much of it has come: with a plan to adopt, leases that are over, and sessions left open."""
    await site.apply(WITHOUT_IPV4)
    clock.micros += 24 * HOUR * MICROSECONDS
    whole = list(log.records)
    for brought in range(len(whole)):
        late = copied(log, whole, clock)
        late.withheld, late.says_so = frozenset(range(brought + 1, len(whole) + 1)), True
        books = books_on(late, clock)
        async with running(books.run()), running(serve(books)) as serving:
            await pass_time(HOUR)
            assert not serving.done()
            assert not books.caught_up.is_set()
            assert late.records == whole


@pytest.mark.parametrize("subnet", [SUBNET, "elsewhere"])
async def test_a_plan_that_no_agent_has_adopted_yet_has_its_subnets_all_the_same(
    subnet: str, site: Site, log: FrailLog, clock: Clock
) -> None:
    draw = random.Random(2).randbytes
    books = Books(log, site=SITE, secret=SECRET, subnet=subnet, agent="a2", now=clock.now, random=draw)
    with capture_logs() as lines:
        async with running(books.run()), running(serve(books)) as serving:
            await asyncio.wait((serving,))
            assert isinstance(serving.exception(), AssertionError)
    warned = any(line["event"].startswith("the plan has no such subnet") for line in lines)
    assert warned == (subnet == "elsewhere")


async def test_of_a_log_with_a_gap_it_ends_and_has_written_nothing(
    site: Site, node: Node, log: FrailLog, clock: Clock
) -> None:
    """Whichever is skipped of those that it follows. The bus itself knows of the last one of a subject."""
    await site.apply(WITHOUT_IPV4)
    await until(lambda: any(isinstance(event, AddressWithdrawn) for event in log.events()))
    whole = list(log.records)
    last = {record.subject: record.sequence for record in whole}
    followed = [subjects.plan(SITE), subjects.ledger(SITE, SUBNET)]
    lost = [each.sequence for each in whole if each.subject in followed and each.sequence != last[each.subject]]
    assert len(lost) >= 3
    for sequence in lost:
        damaged = copied(log, whole, clock)
        damaged.withheld = frozenset({sequence})
        books = books_on(damaged, clock)
        with pytest.raises(BaseExceptionGroup) as ended:
            async with asyncio.timeout(HOUR):
                await books.run()
        assert ended.group_contains(LogDamaged) or ended.group_contains(ChainBroken), sequence
        assert not books.caught_up.is_set()
        assert damaged.records == whole


async def test_a_node_keeps_what_it_has_before_an_empty_log(node: Node, log: FrailLog, clock: Clock) -> None:
    had = node.addresses
    empty = copied(log, (), clock)
    books = books_on(empty, clock)
    async with running(books.run()):
        await until(books.caught_up.is_set)
        again = Node(books, "web-1", state=node.state)
        await again.talk()
        assert not [told for told in again.heard if isinstance(told, node_events.Assigned)]
    assert again.addresses == had
    assert not _leases(empty.events())


async def test_a_node_keeps_what_it_has_before_a_log_without_its_end(node: Node, log: FrailLog, clock: Clock) -> None:
    """At every length: as a backup from before, of which nobody but the node knows that there was more."""
    had, generation = node.addresses, node.state.generation((SITE, SUBNET))
    assert generation is not None
    for length in range(1, generation.ledger):
        shorter = copied(log, log.records[:length], clock)
        leases = _leases(shorter.events())
        books = books_on(shorter, clock)
        async with running(books.run()):
            await until(books.caught_up.is_set)
            again = Node(books, "web-1", state=node.state)
            await again.talk()
            assert again.addresses == had
            assert not [told for told in again.heard if isinstance(told, node_events.Assigned)]
        assert _leases(shorter.events()) == leases  # it gave nothing from a ledger that is too short


def _leases(events: Sequence[Event]) -> list[AddressAllocated]:
    return [event for event in events if isinstance(event, AddressAllocated)]
