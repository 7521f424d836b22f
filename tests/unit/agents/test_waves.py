"""A plan in waves, brought to nodes by two agents that share nothing but the log."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TypeVar

import pytest

from dnms.agents.subnet.books import Books
from dnms.agents.subnet.waves import LOOK, Waves, asked, outcome
from dnms.domain.rollouts import RollingOut
from dnms.events.configuration import Generation
from dnms.events.ip import parse_address
from dnms.events.plan import Rollout
from dnms.events.recorded import Event
from dnms.events.requests import SteerRollout
from dnms.events.rollout import RolloutAdvanced, RolloutEnded, RolloutStopped, RolloutTold
from dnms.events.seen import AppliedItem
from dnms.wire.agent_events import AppliedReport
from tests.unit.agents.conftest import PLAN, Clock, FrailLog, Node, Site

E = TypeVar("E", bound=Event)

SECOND = 1_000_000
IN_WAVES = PLAN.replace("dns =", "rollout = { canaries = 1, waves = [50, 100], pause = 10, within = 60 }\ndns =")
NEW = IN_WAVES.replace("2001:db8::53", "2001:db8::54")
OLD_DNS, NEW_DNS = parse_address("2001:db8::53"), parse_address("2001:db8::54")
PAUSE, WITHIN = 10, 60  # seconds, as in the plan
STEPS = 400  # of a second each


class Link:
    """Two agents with eight nodes each."""

    def __init__(self, log: FrailLog, clock: Clock, site: Site, agents: Sequence[Books]) -> None:
        self.log, self.clock, self.site, self.agents = log, clock, site, agents
        self.nodes = {
            books: [Node(books, f"{number}-{index}") for index in range(8)] for number, books in enumerate(agents)
        }

    @property
    def all(self) -> list[Node]:
        return [node for nodes in self.nodes.values() for node in nodes]

    def having(self, server: bytes) -> list[Node]:
        told = [(node, node.state.assignment) for node in self.all]
        return [node for node, assignment in told if assignment and assignment.resolver.servers == (server,)]

    async def seconds(self, count: int) -> None:
        """Of the clock, in each of which agents look and tell those that are due something."""
        for _ in range(count):
            self.clock.micros += SECOND
            await asyncio.sleep(2 * LOOK)
            for books, nodes in self.nodes.items():
                touched = books.take_due()
                for node in nodes:
                    if touched is None or node.client in touched:
                        await node.served.push()
                    await node.talk()

    def events(self, kind: type[E]) -> list[E]:
        return [event for event in self.log.events() if isinstance(event, kind)]


@asynccontextmanager
async def serving(log: FrailLog, clock: Clock) -> AsyncIterator[Link]:
    site = Site(log, clock)
    await site.apply(IN_WAVES)
    async with AsyncExitStack() as stack:
        agents = [await stack.enter_async_context(site.agent(name)) for name in ("a1", "a2")]
        link = Link(log, clock, site, agents)
        for node in link.all:
            await node.talk()
        waves = [
            asyncio.create_task(Waves(books, lambda books=books: [node.served for node in link.nodes[books]]).run())  # type: ignore[misc]
            for books in agents
        ]
        try:
            yield link
        finally:
            for task in waves:
                task.cancel()


@pytest.fixture
async def link(log: FrailLog, clock: Clock) -> AsyncIterator[Link]:
    async with serving(log, clock) as link:
        assert len(link.having(OLD_DNS)) == len(link.all)
        await link.site.apply(NEW)
        yield link


async def test_one_then_half_then_all_are_told_and_each_only_once(link: Link) -> None:
    seen = list[int]()
    for _ in range(STEPS):
        await link.seconds(1)
        seen.append(len(link.having(NEW_DNS)))
        if link.events(RolloutEnded):
            break
    await link.seconds(2)
    assert len(link.having(NEW_DNS)) == len(link.all)
    told = [client for event in link.events(RolloutTold) for client in event.clients]
    assert sorted(told) == sorted(node.client for node in link.all)
    assert len(link.events(RolloutAdvanced)) == 2
    assert seen.count(1) >= PAUSE  # the canary alone
    assert any(1 < count < len(link.all) for count in seen)  # then some, and not all


async def test_a_node_that_goes_back_stops_it_and_abort_puts_it_back(link: Link) -> None:
    for node in link.all:
        node.rolls_back = "gateway"
    await link.seconds(30)
    [stopped] = link.events(RolloutStopped)
    assert stopped.why == "rolled-back"
    assert [node.client for node in link.having(NEW_DNS)] == [stopped.client]
    for node in link.all:
        node.rolls_back = ""
    await link.agents[1].decide(SteerRollout(to="abort"))
    await link.seconds(3)
    assert len(link.having(OLD_DNS)) == len(link.all)


async def test_a_canary_that_says_nothing_stops_it(link: Link) -> None:
    await link.seconds(1)
    [told] = link.events(RolloutTold)
    for books, nodes in link.nodes.items():  # before it has heard of it
        link.nodes[books] = [node for node in nodes if node.client not in told.clients]
    await link.seconds(WITHIN - 5)
    assert not link.events(RolloutStopped)
    await link.seconds(10)
    assert [(event.client, event.why) for event in link.events(RolloutStopped)] == [(told.clients[0], "silent")]
    assert link.having(NEW_DNS) == []


GENERATION = Generation(0, 1, 20)


def report(outcome_: str = "usable", *, ledger: int = 20, unproven: bool = False, why: str = "") -> AppliedReport:
    items = (AppliedItem(address=bytes(16), outcome=outcome_),)
    return AppliedReport(generation=Generation(0, 1, ledger), items=items, unproven=unproven, why=why)


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (None, None),
        (report(), "proven"),
        (report(ledger=19), None),
        (report(unproven=True), None),
        (report("duplicate"), None),
        (report("rolled-back", why="gateway"), "rolled-back"),
        (report("refused"), "refused"),
        (report("refused", why="rival-dhcpcd"), "refused"),
        (AppliedReport(generation=GENERATION, items=(), unproven=False, why=""), "proven"),  # it is only observed
    ],
)
def test_what_a_report_says_of_what_was_told_at_20(said: AppliedReport | None, expected: str | None) -> None:
    assert outcome(said, 20) == expected


def test_nothing_is_asked_for_nobody() -> None:
    now = RollingOut(7, 0)
    assert list(asked(now, Rollout(), {}, at=10**12)) == []
