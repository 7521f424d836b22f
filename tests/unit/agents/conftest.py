"""A Subnet Agent's books on a log in memory, and nodes that talk to it byte by byte, without a socket or a kernel."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import random
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager

import pytest

from dnms.agents.subnet.books import Books
from dnms.agents.subnet.claims import Claims
from dnms.agents.subnet.folds import Folds
from dnms.agents.subnet.joining import Joining
from dnms.agents.subnet.newcomers import Newcomers
from dnms.agents.subnet.served import Introduction, ServedNode
from dnms.bus.committer import Committer
from dnms.bus.keys import Keys
from dnms.bus.memory import MemoryLog
from dnms.bus.port import Batch, Record, Unavailable
from dnms.disk.journal import JournalError
from dnms.domain.aggregate import Fold
from dnms.domain.document import from_toml
from dnms.domain.plan import PlanState
from dnms.events import codec, subjects
from dnms.events.configuration import InterfaceAddress, Link, Snapshot
from dnms.events.ip import family
from dnms.events.recorded import Event, Personal
from dnms.events.requests import MergeOutage
from dnms.events.seen import AppliedItem
from dnms.wire import agent_events, node_events
from dnms.wire.agent_session import AgentSession
from dnms.wire.channel import Closed
from dnms.wire.messages import Association, PrefixAssociation
from dnms.wire.node_session import NodeSession
from dnms.wire.node_state import NodeState
from tests.virtual_time import VirtualTimeLoop

SITE, SUBNET, SECRET = "s", "office", b"k" * 32
PLAN = """
[site]
name = "s"
[[group]]
name = "voip"
number = 0x5a1e
nodes = ["phone-*"]
[[subnet]]
name = "office"
prefixes = ["2001:db8:1:1::/64", "192.0.2.0/28"]
gateways = ["fe80::1", "192.0.2.1"]
dns = ["2001:db8::53"]
[[pool]]
name = "office-v6"
subnet = "office"
range = "2001:db8:1:1::/64"
[[pool]]
name = "office-v4"
subnet = "office"
range = "192.0.2.0/28"
"""


class Clock:
    """Instants that the test moves, and every look at it by a little: no two decisions are of the same instant."""

    def __init__(self) -> None:
        self.micros = 1_700_000_000_000_000

    def now(self) -> int:
        self.micros += 1
        return self.micros


class FrailLog(MemoryLog):
    """A log that can be cut off, or be full: then it can be read."""

    cut = False
    full = False

    async def store(self, subject: str, data: bytes, *, expected: int) -> int:
        if self.cut or self.full:
            raise Unavailable("cut off by the test")
        return await super().store(subject, data, expected=expected)

    async def end(self) -> int:
        if self.cut:
            raise Unavailable("cut off by the test")
        return await super().end()

    def events(self) -> list[Event]:
        return [event for record in self.records for event in codec.decode(record.data).events]


class OtherWay(FrailLog):
    """Another way to the same log, that can be cut off alone."""

    def __init__(self, log: FrailLog, clock: Clock) -> None:
        super().__init__(SITE, log_id=log.log_id, now=clock.now)
        self.other = log
        self.keys = Keys(log.keys.store)

    async def store(self, subject: str, data: bytes, *, expected: int) -> int:
        if self.cut or self.full:
            raise Unavailable("cut off by the test")
        return await self.other.store(subject, data, expected=expected)

    async def first_after(self, subject: str, sequence: int) -> Record | None:
        return await self.other.first_after(subject, sequence)

    async def end(self) -> int:
        if self.cut:
            raise Unavailable("cut off by the test")
        return await self.other.end()

    async def follow(self, subjects: Sequence[str], *, after: int = 0) -> AsyncGenerator[Batch, None]:
        async with aclosing(self.other.follow(subjects, after=after)) as batches:
            async for batch in batches:
                while self.cut:  # noqa: ASYNC110  # virtual time
                    await asyncio.sleep(0.1)
                yield batch


class MemoryJournal:
    """A journal in memory, which outlives the agent that writes it."""

    def __init__(self, entries: Iterable[MergeOutage] = ()) -> None:
        self.kept = {(each.client, each.iaid, each.address): each for each in entries}
        self.full = False

    @property
    def entries(self) -> tuple[MergeOutage, ...]:
        return tuple(self.kept.values())

    async def write(self, entry: MergeOutage) -> None:
        await asyncio.sleep(0)
        if self.full:
            raise JournalError("the disk is full")
        self.kept[entry.client, entry.iaid, entry.address] = entry

    async def remove(self, *entries: MergeOutage) -> None:
        await asyncio.sleep(0)
        for each in entries:
            key = each.client, each.iaid, each.address
            if self.kept.get(key) == each:
                del self.kept[key]


class Site:
    """A log, a plan and any number of agents on one subnet."""

    def __init__(self, log: FrailLog, clock: Clock) -> None:
        self.log = log
        self.clock = clock
        self._processes = 0

    async def apply(self, plan: str) -> None:
        committer = Committer(
            self.log,
            subjects.plan(SITE),
            Fold(PlanState()),
            actor="operator/test",
            now=self.clock.now,
            random=random.Random(1).randbytes,
        )
        await committer.catch_up()
        running = asyncio.create_task(committer.run())
        try:
            await committer.submit(from_toml(plan))
        finally:
            running.cancel()

    def books(
        self,
        name: str = "a1",
        *,
        subnet: str = SUBNET,
        log: FrailLog | None = None,
        journal: MemoryJournal | None = None,
        folds: Folds | None = None,
        waits: Mapping[int, float] | None = None,
    ) -> Books:
        """Those of one process of an agent; `log`: another way to the same log, or another log."""
        self._processes += 1
        return Books(
            log or self.log,
            site=SITE,
            secret=SECRET,
            subnet=subnet,
            agent=name,
            now=self.clock.now,
            random=random.Random(f"{name} {self._processes}").randbytes,
            journal=journal,
            folds=folds,
            waits=waits,
        )

    @asynccontextmanager
    async def agent(
        self,
        name: str = "a1",
        *,
        subnet: str = SUBNET,
        journal: MemoryJournal | None = None,
        log: FrailLog | None = None,
    ) -> AsyncIterator[Books]:
        """One that runs, and has adopted a plan."""
        books = self.books(name, subnet=subnet, log=log, journal=journal)
        async with running(books):
            await until(lambda: books.ledger.plan.subnet is not None)
            yield books


@asynccontextmanager
async def running(books: Books) -> AsyncIterator[None]:
    """Have these follow and write meanwhile."""
    task = asyncio.create_task(books.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait((task,))


def client_id(duid: bytes) -> bytes:
    """As a site hashes it."""
    return hashlib.blake2b(duid, key=SECRET, digest_size=16).digest()


class Node:
    """Both ends of a session, and a kernel that lets every address be used but those in `taken`."""

    def __init__(
        self,
        books: Books,
        name: str,
        *,
        state: NodeState | None = None,
        prefixes: Iterable[PrefixAssociation] = (),
    ) -> None:
        self.state = state or NodeState()
        self.books = books
        self.taken: set[bytes] = set()
        self.rolls_back = ""  # why it cannot keep what it is told
        self.configured: tuple[InterfaceAddress, ...] = ()  # what it has already, and registers
        self.now = 0.0
        self.heard: list[node_events.NodeEvent] = []
        self.asked: list[agent_events.AgentEvent] = []
        self.duid = b"\x00\x04" + hashlib.sha256(name.encode()).digest()[:16]
        self.client = client_id(self.duid)
        self.hardware = self.duid[:6]
        self.session = NodeSession(
            self.state,
            duid=self.duid,
            name=name,
            interface="eth0",
            associations=(Association(iaid=1, family=6), Association(iaid=1, family=4)),
            prefixes=prefixes,
            now=0.0,
        )
        self.agent = AgentSession(now=0.0)
        self.hardware = self.duid[:6]
        self.alarms: list[Event] = []
        self.served = self.serve("fe80::5%eth0")

    def serve(self, peer: str, newcomers: Newcomers | None = None, claims: Claims | None = None) -> ServedNode:
        """The agent's end of it, for who comes from this address."""
        joining = Joining(self.books, client_id, self._alarmed)
        introduction = Introduction("a1", SITE, self.books.subnet)
        return ServedNode(
            self.agent, self.books, introduction, peer=peer, joining=joining, newcomers=newcomers, claims=claims
        )

    async def _alarmed(self, event: Event) -> None:
        await asyncio.sleep(0)
        self.alarms.append(event)

    @property
    def addresses(self) -> set[bytes]:
        return set(self.state.held)

    def new_connections_from(self, kind: int) -> list[bytes]:
        """The addresses of a family that are not deprecated."""
        assigned = self.state.assignment.addresses if self.state.assignment else ()
        return [each.address for each in assigned if each.preferred and family(each.address) == kind]

    async def talk(self) -> None:
        """Until neither end has anything more to say."""
        while True:
            upward, downward = self.session.to_send(self.now), self.agent.to_send(self.now)
            if upward:
                self.agent.receive(upward, self.now)
            if downward:
                self.session.receive(downward, self.now)
            for event in self.agent.events():
                self.asked.append(event)
                if isinstance(event, agent_events.Greeted):
                    self.served.greet(event, self.client, now=self.now)
                elif isinstance(event, Closed):
                    self.served.leave(event.why)
                else:
                    await self.served.handle(event)
            for told in self.session.events():
                self.heard.append(told)
                self._obey(told)
            if not upward and not downward:
                await self._settle()
                return

    async def _settle(self) -> None:
        """Let what nobody waits for come into the log, unless that is away."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.01):
                await self.books.settled()

    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        self.session.tick(self.now)
        self.agent.tick(self.now)

    def _obey(self, event: node_events.NodeEvent) -> None:
        if isinstance(event, node_events.Welcomed):
            link = Link(index=2, name="eth0", hardware=Personal(self.hardware))
            self.session.register(Snapshot(links=(link,), addresses=self.configured, kernel="6.1"), self.now)
        elif isinstance(event, node_events.Assigned):
            wanted = [each.address for each in event.assignment.addresses]
            items = [
                AppliedItem(address=each, outcome="duplicate" if each in self.taken else "usable") for each in wanted
            ]
            if self.rolls_back:
                items = [AppliedItem(address=each, outcome="rolled-back") for each in wanted]
            self.session.applied(event.assignment.generation, items, self.now, why=self.rolls_back)
            if duplicates := self.taken.intersection(wanted):
                self.session.declined(duplicates, self.now)


async def until(condition: Callable[[], bool], *, seconds: float = 5.0) -> None:
    """Let other tasks run until it is so, for so many virtual seconds."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110  # virtual time: nothing waits
            await asyncio.sleep(0.001)


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {"virtual": VirtualTimeLoop}


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def log(clock: Clock) -> FrailLog:
    return FrailLog(SITE, log_id="log", now=clock.now)


@pytest.fixture
async def site(log: FrailLog, clock: Clock) -> Site:
    site = Site(log, clock)
    await site.apply(PLAN)
    return site


@pytest.fixture
async def books(site: Site) -> AsyncIterator[Books]:
    async with AsyncExitStack() as stack:
        yield await stack.enter_async_context(site.agent("a1"))
