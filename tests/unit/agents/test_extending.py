"""A node with an open session does not renew: its agent extends what it holds, and tells it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable

import pytest

from dnms.agents.pump import Pump
from dnms.agents.subnet.books import Books
from dnms.agents.subnet.extending import Extending
from dnms.agents.subnet.served import Introduction
from dnms.agents.subnet.sessions import Sessions
from dnms.agents.subnet.told import PING_EVERY, SHORTEST_PING
from dnms.events.address import AddressExpired, AddressRenewed
from dnms.events.ip import family, parse_address
from dnms.events.recorded import Personal
from dnms.events.requests import BlockAddress, HoldAddress, IdentifyNode, MoveAddress, ReleaseAddress
from dnms.kit.clock import MICROSECONDS
from dnms.wire import agent_events
from dnms.wire.messages import Association, Binding
from dnms.wire.node_events import Assigned, Extended
from tests.unit.agents.conftest import (
    PLAN,
    SITE,
    SUBNET,
    Clock,
    FrailLog,
    MemoryJournal,
    Node,
    Site,
    client_id,
    until,
)
from tests.virtual_time import pass_time

T1 = 1_350
HOUR = 3_600
STRICT = PLAN.replace('name = "office"\n', 'name = "office"\nstrict = true\n')
SHORTER_V4 = PLAN.replace('range = "192.0.2.0/28"', 'range = "192.0.2.0/28"\npreferred = 600\nvalid = 900')


class Link:
    """The agent's sessions with some nodes, and time that passes for all of them alike."""

    def __init__(self, books: Books, clock: Clock) -> None:
        self.books = books
        self.sessions = Sessions(books, Introduction("a1", SITE, SUBNET), client_id=client_id)
        self.clock = clock
        self.nodes: list[Node] = []

    async def join(self, node: Node) -> Node:
        await node.talk()
        pump: Pump[agent_events.AgentEvent] = Pump(node.agent, asyncio.StreamReader(), None)  # type: ignore[arg-type]
        self.sessions._open[asyncio.create_task(asyncio.sleep(0))] = (node.agent, pump, node.served)
        self.nodes.append(node)
        return node

    async def live(self, seconds: float, *, silent: Iterable[Node] = ()) -> None:
        """Nothing is heard of those that are `silent`, and nothing reaches them."""
        end = asyncio.get_running_loop().time() + seconds
        while (now := asyncio.get_running_loop().time()) < end:
            await self.pass_time(min(10.0, end - now))
            for node in self.nodes:
                node.pass_time(10.0)
                if node not in silent:
                    await node.talk()

    async def pass_time(self, seconds: float) -> None:
        self.clock.micros += int(seconds * MICROSECONDS)
        await pass_time(seconds)


def renewals(log: FrailLog, kind: int) -> list[AddressRenewed]:
    return [event for event in log.events() if isinstance(event, AddressRenewed) and family(event.address) == kind]


def asked(node: Node, kind: type[agent_events.AgentEvent]) -> int:
    return sum(isinstance(event, kind) for event in node.asked)


def told(node: Node, kind: type[Assigned | Extended]) -> int:
    return sum(isinstance(event, kind) for event in node.heard)


@pytest.fixture
async def link(books: Books, clock: Clock) -> AsyncIterator[Link]:
    link = Link(books, clock)
    extending = asyncio.create_task(Extending(books, link.sessions).run())
    yield link
    assert not extending.done()
    extending.cancel()
    await asyncio.wait((extending,))


async def test_a_node_with_an_open_session_keeps_what_it_has_and_never_renews(link: Link, log: FrailLog) -> None:
    node = await link.join(Node(link.books, "web-1"))
    had = node.addresses
    await link.live(4 * HOUR)
    assert node.addresses == had
    assert (asked(node, agent_events.Renewed), asked(node, agent_events.Rebound)) == (0, 0)
    assert told(node, Assigned) == 1
    assert told(node, Extended) >= 4 * HOUR // T1
    assert 1 <= len(renewals(log, 6)) <= 2  # promised for four lifetimes
    assert node.state.renew_at > node.now
    leases = link.books.ledger.leases
    assert all(leases[address].horizon > link.clock.micros + 1_800 * MICROSECONDS for address in had)


async def test_nodes_that_came_at_different_times_are_extended_in_few_commits(
    link: Link, log: FrailLog, site: Site
) -> None:
    for number in range(12):
        await link.join(Node(link.books, f"web-{number}"))
        await link.live(T1 / 12)
    await link.live(T1)
    before = len(log.records)
    await link.live(10 * T1)
    assert all(asked(node, agent_events.Renewed) == 0 for node in link.nodes)
    commits = len(log.records) - before
    assert len(renewals(log, 4)) >= 12 * 10
    assert commits <= 6 * 10 / 0.7


async def test_a_node_that_does_not_answer_is_not_extended_and_its_leases_end_when_it_was_told(
    link: Link, log: FrailLog
) -> None:
    talks, silent = await link.join(Node(link.books, "web-1")), await link.join(Node(link.books, "web-2"))
    had = silent.addresses
    promised = {address: link.books.ledger.leases[address].horizon for address in had}
    await link.live(30)  # its answer to the assignment was heard: once it is extended for that
    await link.live(2 * HOUR, silent=(silent,))
    four = next(address for address in had if family(address) == 4)
    (expired,) = [event for event in log.events() if isinstance(event, AddressExpired)]
    assert expired.address == four
    assert len(talks.addresses) == 2
    renewed = [event for event in log.events() if isinstance(event, AddressRenewed) and event.address == four]
    assert len(renewed) <= 1
    assert all(event.horizon <= promised[four] + T1 * MICROSECONDS for event in renewed)


async def test_a_node_that_was_not_extended_in_time_renews_by_itself(books: Books, clock: Clock) -> None:
    link = Link(books, clock)  # without the task
    node = await link.join(Node(books, "web-1"))
    await link.live(2 * HOUR)
    assert asked(node, agent_events.Renewed) == pytest.approx(2 * HOUR / T1, abs=2)
    assert len(node.addresses) == 2


async def test_a_node_that_has_arrived_elsewhere_is_not_extended_here(link: Link, log: FrailLog) -> None:
    node = await link.join(Node(link.books, "web-1"))
    elsewhere = IdentifyNode(
        client=node.client, duid=Personal(node.duid), name=Personal("web-1"), subnet="lab", hardware=(), kernel=""
    )
    await link.books.identify(elsewhere)
    assert link.books.has_left(node.client)
    await link.live(T1 - 20)
    assert told(node, Extended) == 0
    assert not renewals(log, 4)


async def test_where_lifetimes_differ_the_whole_is_told(link: Link, site: Site) -> None:
    await site.apply(SHORTER_V4)
    await until(lambda: any(pool.valid == 900 for pool in link.books.ledger.plan.pools))
    node = await link.join(Node(link.books, "web-1"))
    await link.live(HOUR)
    assert (told(node, Extended), asked(node, agent_events.Renewed)) == (0, 0)
    last = [event for event in node.heard if isinstance(event, Assigned)][-1]
    assert sorted(each.valid for each in last.assignment.addresses) == pytest.approx([900, 3_600], abs=2)
    assert len(node.addresses) == 2


async def test_what_is_to_be_drained_is_not_made_to_last(link: Link, clock: Clock) -> None:
    node = await link.join(Node(link.books, "web-1"))
    six = next(address for address in node.addresses if family(address) == 6)
    await link.books.decide(MoveAddress(client=node.client, iaid=1, address=six))
    await node.served.push()
    await node.talk()
    assert len(node.addresses) == 3
    ends = node.state.held[six].until
    await link.live(HOUR - 100)
    assert node.state.held[six].until <= ends + 1
    await link.live(1_000)
    assert six not in node.addresses
    assert len(node.addresses) == 2
    assert asked(node, agent_events.Renewed) == 0


async def test_what_a_node_lacks_is_given_when_there_is_some_again(link: Link) -> None:
    """It would ask for it when it renews."""
    others = [await link.join(Node(link.books, f"web-{number}")) for number in range(13)]
    last = await link.join(Node(link.books, "web-99"))
    assert {family(address) for address in last.addresses} == {6}
    (four,) = others[0].new_connections_from(4)
    link.nodes.remove(others[0])
    others[0].agent.bye("test")
    await link.books.decide(ReleaseAddress(client=others[0].client, iaid=1, address=four))
    await link.live(T1)
    assert last.new_connections_from(4) == [four]
    assert asked(last, agent_events.Renewed) == 0


async def test_on_a_strict_subnet_every_extension_is_in_the_log(link: Link, log: FrailLog, site: Site) -> None:
    await site.apply(STRICT)
    await until(lambda: link.books.ledger.plan.subnet is not None and link.books.ledger.plan.subnet.strict)
    node = await link.join(Node(link.books, "web-1"))
    await link.live(2 * HOUR)
    extended = told(node, Extended)
    assert extended >= 2 * HOUR // T1
    assert len(renewals(log, 6)) == len(renewals(log, 4)) == extended


async def test_while_the_log_is_away_nothing_is_told_past_its_promise(site: Site, log: FrailLog, clock: Clock) -> None:
    async with site.agent("a2", journal=MemoryJournal()) as books:
        link = Link(books, clock)
        extending = asyncio.create_task(Extending(books, link.sessions).run())
        node = await link.join(Node(books, "web-1"))
        promised = {address: books.ledger.leases[address].horizon for address in node.addresses}
        log.cut = True
        books.outage.begin("cut off by the test")
        began = clock.micros - int(node.now * MICROSECONDS)
        six = next(address for address in promised if family(address) == 6)
        first_end = node.state.held[six].until
        await link.live(T1 - 10)
        assert asked(node, agent_events.Renewed) == 0
        assert node.state.held[six].until > first_end + 1_000
        for address, held in node.state.held.items():
            assert began + held.until * MICROSECONDS <= promised[address] + MICROSECONDS
        extending.cancel()
        await asyncio.wait((extending,))


async def test_nodes_are_asked_whether_they_are_there_often_enough_to_be_extended(site: Site, clock: Clock) -> None:
    async with site.agent("a2") as books:
        usual = Node(books, "web-1")
        await usual.talk()
        await site.apply(PLAN.replace('range = "192.0.2.0/28"', 'range = "192.0.2.0/28"\npreferred = 20\nvalid = 30'))
        await until(lambda: any(pool.valid == 30 for pool in books.ledger.plan.pools))
        short = Node(books, "web-2")
        await short.talk()
        every = [node.session.welcome.ping_every for node in (usual, short) if node.session.welcome is not None]
        assert every == [PING_EVERY, SHORTEST_PING]


async def test_where_the_subnet_has_one_family_the_other_is_not_asked_for_again_and_again(
    link: Link, log: FrailLog, site: Site
) -> None:
    await site.apply(PLAN[: PLAN.index('[[pool]]\nname = "office-v4"')])
    await until(lambda: len(link.books.ledger.plan.pools) == 1)
    node = await link.join(Node(link.books, "web-1"))
    await link.live(HOUR)
    before = len(log.records)
    await link.live(HOUR)
    assert (told(node, Assigned), told(node, Extended) >= 2 * HOUR // T1) == (1, True)
    assert len(log.records) == before


async def test_what_a_node_lacks_when_it_comes_back_is_given_at_once(link: Link) -> None:
    node = await link.join(Node(link.books, "web-1"))
    (four,) = node.new_connections_from(4)
    del node.state.held[four]  # it has ended for the node, while there was no agent
    node.agent.bye("test")
    link.nodes.remove(node)
    again = await link.join(Node(link.books, "web-1", state=node.state))
    assert asked(again, agent_events.Confirmed) == 1
    assert again.new_connections_from(4) == [four]
    assert four in again.addresses


async def test_what_is_kept_for_a_node_and_rests_is_given_when_it_may_be(link: Link, site: Site) -> None:
    """It would be when the node renews."""
    node = await link.join(Node(link.books, "web-1"))
    kept = parse_address("192.0.2.9")
    await link.books.decide(BlockAddress(client=bytes(16), address=kept, cause=1))
    await link.books.decide(HoldAddress(client=node.client, iaid=1, family=4, address=kept))
    await node.served.push()
    await node.talk()
    assert node.new_connections_from(4) != [kept]
    await link.live(24 * HOUR - T1)
    assert node.new_connections_from(4) != [kept]
    await link.live(2 * T1)
    assert node.new_connections_from(4) == [kept]
    before = told(node, Assigned)
    await link.live(2 * HOUR)  # while the former one is drained, and after that
    assert (told(node, Extended) > 0, asked(node, agent_events.Renewed)) == (True, 0)
    await link.live(4 * T1)
    assert told(node, Assigned) - before <= 2 * HOUR / T1 + 1


async def test_what_a_refused_renewal_wanted_is_given_when_there_is_some(books: Books) -> None:
    node = Node(books, "web-1")
    await node.talk()
    lost = min(node.addresses)
    for address in sorted(node.addresses):
        await books.decide(ReleaseAddress(client=node.client, iaid=1, address=address))
    node.served._wanted.clear()  # as where it comes to another agent
    wanted = (Association(iaid=1, family=6), Association(iaid=1, family=4))
    renewed = agent_events.Renewed(0, (Binding(iaid=1, address=lost),), wanted, None)
    await node.served.handle(renewed)  # refused: it does not hold that
    assert not books.ledger.leases_of(node.client, 1, 4)
    await node.served.push()
    assert {kind for kind in (4, 6) if books.ledger.leases_of(node.client, 1, kind)} == {4, 6}
