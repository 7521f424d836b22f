"""An agent that starts from a snapshot knows what one knows that has read the whole log, and reads only the rest."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import AsyncExitStack, aclosing
from typing import cast

import pytest

from dnms.agents.subnet import snapshot
from dnms.agents.subnet.books import Books
from dnms.agents.subnet.folds import Folds
from dnms.agents.subnet.snapshot import Keeper, Whose, restored, taken
from dnms.bus.committer import Committer
from dnms.bus.keys import MemoryKeyStore
from dnms.bus.port import Batch, LogForked
from dnms.disk.snapshot import SnapshotError
from dnms.domain import ledger_dump
from dnms.domain.aggregate import Fold, Refused
from dnms.domain.nodes import NodeShard
from dnms.events import subjects
from dnms.events.address import OutageGranted
from dnms.events.ip import family
from dnms.events.requests import AllocateAddress, ForgetNode, HoldAddress
from dnms.events.seen import SessionClosed
from tests.unit.agents.conftest import (
    PLAN,
    SECRET,
    SITE,
    SUBNET,
    Clock,
    FrailLog,
    MemoryJournal,
    Node,
    OtherWay,
    Site,
    running,
    until,
)
from tests.virtual_time import pass_time

WHOSE = Whose(SITE, SUBNET, "a1")


class CountingWay(OtherWay):
    """A way to the log that counts how much of it was followed."""

    def __init__(self, log: FrailLog, clock: Clock) -> None:
        super().__init__(log, clock)
        self.followed: list[int] = []

    async def follow(self, subjects: Sequence[str], *, after: int = 0) -> AsyncGenerator[Batch, None]:
        async with aclosing(super().follow(subjects, after=after)) as batches:
            async for batch in batches:
                self.followed += [record.sequence for record in batch.records]
                yield batch


class MemorySnapshots:
    """The newest one, in memory."""

    def __init__(self) -> None:
        self.kept: tuple[bytes, bytes] | None = None
        self.full = False

    async def write(self, small: bytes, large: Sequence[bytes]) -> None:
        await asyncio.sleep(0)
        if self.full:
            raise SnapshotError("the disk is full")
        self.kept = small, b"".join(large)

    def folds(self, whose: Whose = WHOSE) -> Folds:
        assert self.kept is not None
        return restored(memoryview(self.kept[0]), memoryview(self.kept[1]), whose, secret=SECRET)


@pytest.fixture
async def busy(site: Site) -> AsyncIterator[Books]:
    """An agent with some of everything."""
    async with AsyncExitStack() as stack:
        books = await stack.enter_async_context(site.agent("a1"))
        for name in ("web-1", "phone-1", "web-2"):
            await Node(books, name).talk()
        declining = Node(books, "web-3")
        declining.taken = {books.ledger.leases[address].address for address in list(books.ledger.leases)[:1]}
        await declining.talk()
        await books.decide(HoldAddress(client=bytes(16), iaid=1, family=6))
        yield books


def positions(folds: Folds) -> list[tuple[int, int]]:
    """Where each fold is."""
    single = [(each.sequence, each.time) for each in (folds.plan, folds.ledger)]
    return [*single, (folds.seen.sequence, folds.seen.time), *((s.sequence, s.time) for s in folds.shards.values())]


async def kept(books: Books) -> MemorySnapshots:
    snapshots = MemorySnapshots()
    await Keeper(books.folds, snapshots, WHOSE, told=lambda: None).keep()
    assert books.folds.events == 0
    return snapshots


async def again(site: Site, log: FrailLog, folds: Folds) -> Books:
    """An agent of the same name that starts with these, run until it has read what came after."""
    books = site.books(log=log, folds=folds)
    async with running(books), asyncio.timeout(5):
        await books.caught_up.wait()
        await books.settled()
    return books


async def test_it_is_what_was_folded(busy: Books) -> None:
    folds = (await kept(busy)).folds()
    ours, theirs = busy.folds, folds
    assert ledger_dump.dump(theirs.ledger.state) == ledger_dump.dump(ours.ledger.state)
    assert theirs.plan.state.document() == ours.plan.state.document()
    assert theirs.seen.state.sessions == ours.seen.state.sessions != set()
    assert {subject: shard.state.nodes for subject, shard in theirs.shards.items()} == {
        subject: shard.state.nodes for subject, shard in ours.shards.items()
    }
    assert positions(theirs) == positions(ours)


async def test_nothing_personal_is_in_it_in_clear(busy: Books, log: FrailLog) -> None:
    snapshots = await kept(busy)
    assert snapshots.kept is not None
    node = Node(busy, "web-1")
    for personal in (b"web-1", node.duid, node.hardware):
        assert not any(personal in part for part in snapshots.kept)
        assert not any(personal in record.data for record in log.records)
    known = await busy.opened(node.client)
    assert known is not None
    assert known.identity is not None
    assert (known.identity.name.value, known.identity.duid.value) == ("web-1", node.duid)


async def test_an_agent_that_reads_that_a_node_is_forgotten_has_its_key_no_more(busy: Books, log: FrailLog) -> None:
    client = Node(busy, "web-1").client
    key = await log.keys.of(client)
    assert key is not None
    had = len(log.keys)
    shard = Committer(
        log, subjects.node(SITE, client), Fold(NodeShard()), actor="operator", now=lambda: 0, random=bytes
    )
    await shard.catch_up()
    writing = asyncio.create_task(shard.run())
    await shard.submit(ForgetNode(client=client, personal=True, key=key.id))
    await until(lambda: busy.node(client) is None and len(log.keys) < had)
    await until(lambda: client not in cast("MemoryKeyStore", log.keys.store).keys)
    writing.cancel()
    snapshots = await kept(busy)
    assert snapshots.kept is not None
    assert not any(key.secret in part for part in snapshots.kept)
    with pytest.raises(Refused, match="there is no such node"):
        shard.fold.state.decide(ForgetNode(client=client, personal=True), at=0, entropy=b"")


async def test_only_what_came_after_is_read(site: Site, busy: Books, log: FrailLog, clock: Clock) -> None:
    snapshots = await kept(busy)
    end = log.records[-1].sequence
    await Node(busy, "web-9").talk()
    counting = CountingWay(log, clock)
    books = await again(site, counting, snapshots.folds())
    assert counting.followed[0] == end  # to see that it is this log
    assert books.position == busy.position
    assert dict(books.ledger.leases) == dict(busy.ledger.leases)
    assert books.knows(Node(busy, "web-1").client)
    assert books.knows(Node(busy, "web-9").client)


async def test_sessions_that_were_open_are_closed(site: Site, busy: Books, log: FrailLog) -> None:
    """Those of the snapshot, and those that were opened after it."""
    snapshots = await kept(busy)
    await Node(busy, "web-9").talk()
    there = set(busy.folds.seen.state.sessions)
    await again(site, log, snapshots.folds())
    assert {event.client for event in log.events() if isinstance(event, SessionClosed)} == there


async def test_another_log_is_no_continuation(site: Site, busy: Books, log: FrailLog, clock: Clock) -> None:
    snapshots = await kept(busy)
    shorter = FrailLog(SITE, log_id=log.log_id, now=clock.now)
    shorter.records = log.records[:-3]
    other = FrailLog(SITE, log_id="other", now=clock.now)
    for forked in (shorter, other):
        books = site.books(log=forked, folds=snapshots.folds())
        with pytest.RaisesGroup(LogForked):
            async with asyncio.timeout(5):
                await books.run()


@pytest.mark.parametrize("whose", [Whose("t", SUBNET, "a1"), Whose(SITE, "lab", "a1"), Whose(SITE, SUBNET, "a2")])
async def test_that_of_another_agent_is_not_used(busy: Books, whose: Whose) -> None:
    snapshots = await kept(busy)
    with pytest.raises(SnapshotError, match="the snapshot is of agent 'a1' on subnet 'office' of site 's'"):
        snapshots.folds(whose)


async def test_what_does_not_fit_together_is_not_used(busy: Books) -> None:
    snapshots = await kept(busy)
    assert snapshots.kept is not None
    small, large = snapshots.kept
    for broken in ((small[:-1], large), (small, large[:-1]), (small, b""), (b"", large), (small, large + b"1")):
        snapshots.kept = broken
        with pytest.raises(SnapshotError, match="does not fit together"):
            snapshots.folds()


async def test_before_anything_was_read_there_is_none() -> None:
    assert await taken(Folds(SECRET), WHOSE, None) is None


async def test_one_is_written_when_there_is_enough_that_is_new(busy: Books) -> None:
    snapshots = MemorySnapshots()
    keeping = asyncio.create_task(Keeper(busy.folds, snapshots, WHOSE, told=lambda: None).run())
    try:
        await pass_time(10 * snapshot.LOOK)
        assert snapshots.kept is None
        requests = [AllocateAddress(client=each.to_bytes(16), iaid=1, family=6) for each in range(snapshot.FEW)]
        await asyncio.gather(*map(busy.decide, requests))
        snapshots.full = True
        await pass_time(2 * snapshot.LOOK)
        snapshots.full = False
        await until(lambda: snapshots.kept is not None, seconds=2 * snapshot.LOOK)
    finally:
        keeping.cancel()
    assert dict(snapshots.folds().ledger.state.leases) == dict(busy.ledger.leases)


async def test_without_the_log_it_serves_by_what_the_snapshot_knows(site: Site, log: FrailLog, clock: Clock) -> None:
    async with site.agent("a1") as books:
        known = Node(books, "web-1")
        await known.talk()
        snapshots, had = await kept(books), known.addresses
    way, journal = OtherWay(log, clock), MemoryJournal()
    way.cut = True
    books = site.books(log=way, journal=journal, folds=snapshots.folds())
    books.begin_without_log()
    async with running(books):
        assert books.ready.is_set()
        assert not books.caught_up.is_set()
        known, new = Node(books, "web-1"), Node(books, "web-9")
        await known.talk()
        await new.talk()
        assert {family(address) for address in known.addresses | new.addresses} == {6}
        assert known.addresses <= had
        assert {(each.client, each.address) for each in journal.entries} >= {(new.client, *new.addresses)}
        way.cut = False
        await until(lambda: not books.outage.active, seconds=60)
        assert books.caught_up.is_set()
        assert not journal.entries
        granted = {(event.client, event.address) for event in log.events() if isinstance(event, OutageGranted)}
        assert granted >= {(new.client, *new.addresses)}
        for node in (known, new):
            await node.served.push()
            await node.talk()
            assert {family(address) for address in node.addresses} == {4, 6}
        assert known.addresses == had


async def test_a_strict_subnet_waits_for_the_log(site: Site, log: FrailLog, clock: Clock) -> None:
    await site.apply(PLAN.replace('name = "office"\n', 'name = "office"\nstrict = true\n', 1))
    async with site.agent("a1") as books:
        snapshots = await kept(books)
    way = OtherWay(log, clock)
    way.cut = True
    books = site.books(log=way, journal=MemoryJournal(), folds=snapshots.folds())
    books.begin_without_log()
    assert not books.ready.is_set()
