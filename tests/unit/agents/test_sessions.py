from __future__ import annotations

import asyncio

from structlog.testing import capture_logs

from dnms.agents.pump import Pump
from dnms.agents.subnet.books import Books
from dnms.agents.subnet.joining import Joining
from dnms.agents.subnet.newcomers import MAX_PEERS, NEW_AT_ONCE, Newcomers
from dnms.agents.subnet.served import Introduction, ServedNode
from dnms.agents.subnet.sessions import (
    LEAVE_WITHIN,
    LINES_AT_ONCE,
    NEWCOMER_RETRY,
    REPLACED,
    REPORT,
    Sessions,
)
from dnms.events.ip import parse_address
from dnms.events.seen import IdentityContested, SessionClosed
from dnms.wire import agent_events as heard
from dnms.wire import messages
from dnms.wire.agent_session import AgentSession
from dnms.wire.errors import Code
from dnms.wire.frames import MAX_FRAME, Frame, FrameReader
from dnms.wire.messages import Association
from dnms.wire.node_session import NodeSession
from tests.unit.agents.conftest import SITE, SUBNET, FrailLog, Node, Site, client_id
from tests.virtual_time import pass_time


def silent(session: AgentSession) -> Pump[heard.AgentEvent]:
    """A pump without a connection."""
    return Pump(session, asyncio.StreamReader(), None)  # type: ignore[arg-type]


def decoded(data: bytes) -> list[messages.Message]:
    """What a node hears."""
    reader = FrameReader(MAX_FRAME)
    reader.receive(data)
    return [frame.message for frame in reader.frames() if isinstance(frame, Frame)]


class Reception:
    """The sessions of an agent, and machines that come to it without a socket."""

    def __init__(self, books: Books, newcomers: Newcomers | None = None) -> None:
        self.books = books
        self.introduction = Introduction("a1", SITE, SUBNET)
        self.sessions = Sessions(
            books,
            self.introduction,
            client_id=client_id,
            newcomers=newcomers,
        )

    async def comes(self, name: str, peer: str) -> AgentSession:
        """A machine that has the DUID of the node `name` says hello from `peer`."""
        node = Node(self.books, name)
        session = AgentSession(now=0.0)
        joining = Joining(self.books, client_id, self.sessions.alarm)
        served = ServedNode(session, self.books, self.introduction, peer=peer, joining=joining)
        pump = silent(session)
        session.receive(node.session.to_send(0.0), 0.0)
        (greeted,) = session.events()
        assert isinstance(greeted, heard.Greeted)
        await self.sessions._greet(session, served, greeted)
        if not session.closed:
            self.sessions._open[asyncio.create_task(asyncio.sleep(0))] = (session, pump, served)
        return session


async def test_a_machine_that_comes_back_takes_the_place_of_its_old_session(books: Books) -> None:
    reception = Reception(books)
    first = await reception.comes("web-1", "fe80::1%eth0")
    second = await reception.comes("web-1", "fe80::1%eth0")
    assert first.closed
    assert not second.closed


async def test_the_end_of_the_old_session_is_recorded_once(books: Books, log: FrailLog) -> None:
    reception = Reception(books)
    node = Node(books, "web-1")
    await node.talk()
    reception.sessions._open[asyncio.create_task(asyncio.sleep(0))] = (node.agent, silent(node.agent), node.served)
    again = await reception.comes("web-1", "fe80::5%eth0")
    await books.settled()
    (closed,) = [event for event in log.events() if isinstance(event, SessionClosed)]
    assert closed == SessionClosed(client=node.client, why=REPLACED)
    assert not again.closed
    node.served.leave("dead-peer")
    await books.settled()
    assert log.events()[-1] == closed


async def test_a_machine_that_comes_back_in_an_outage_is_welcomed_at_once(books: Books, log: FrailLog) -> None:
    reception = Reception(books)
    node = Node(books, "web-1")
    await node.talk()
    reception.sessions._open[asyncio.create_task(asyncio.sleep(0))] = (node.agent, silent(node.agent), node.served)
    log.cut = True
    began = asyncio.get_running_loop().time()
    await reception.comes("web-1", "fe80::5%eth0")
    assert asyncio.get_running_loop().time() == began


async def test_an_agent_that_leaves_in_an_outage_waits_for_nobody_for_long(books: Books, log: FrailLog) -> None:
    reception = Reception(books)
    configured, waiting = Node(books, "web-1"), Node(books, "web-2")
    await configured.talk()
    log.cut = True
    serving = asyncio.create_task(reception.sessions.serve([]))
    talking = asyncio.create_task(waiting.talk())
    for node, task in ((configured, asyncio.create_task(asyncio.sleep(0))), (waiting, talking)):
        reception.sessions._open[task] = (node.agent, silent(node.agent), node.served)
    configured.served.leave("bye")
    await pass_time(1.0)
    began = asyncio.get_running_loop().time()
    serving.cancel()
    await asyncio.wait((serving,))
    assert asyncio.get_running_loop().time() - began <= 2 * LEAVE_WITHIN
    assert talking.cancelled()


async def test_a_copy_of_a_machine_is_refused_and_recorded_once(books: Books, log: FrailLog) -> None:
    reception = Reception(books)
    first = await reception.comes("web-1", "fe80::1%eth0")
    for _ in range(2):
        copy = await reception.comes("web-1", "fe80::2%eth0")
        assert copy.closed
        assert not first.closed
    (alarm,) = [event for event in log.events() if isinstance(event, IdentityContested)]
    assert (alarm.holder, alarm.contender) == (parse_address("fe80::1"), parse_address("fe80::2"))


async def test_the_copy_is_taken_once_the_other_is_gone(books: Books) -> None:
    reception = Reception(books)
    first = await reception.comes("web-1", "fe80::1%eth0")
    first.receive_end(0.0)
    assert not (await reception.comes("web-1", "fe80::2%eth0")).closed


async def test_machines_with_duids_of_their_own_do_not_disturb_each_other(books: Books) -> None:
    reception = Reception(books)
    first = await reception.comes("web-1", "fe80::1%eth0")
    second = await reception.comes("web-2", "fe80::2%eth0")
    assert not first.closed
    assert not second.closed


async def test_one_address_brings_few_nodes_that_are_new_and_others_as_many(books: Books) -> None:
    reception = Reception(books)
    came = [await reception.comes(f"web-{number}", "fe80::1%eth0") for number in range(NEW_AT_ONCE + 2)]
    assert [session.closed for session in came] == [False] * NEW_AT_ONCE + [True] * 2
    (error,) = decoded(came[-1].to_send(0.0))
    assert isinstance(error, messages.Error)
    assert (error.code, error.retry_after) == (Code.BUSY, NEWCOMER_RETRY)
    assert not (await reception.comes("web-0", "fe80::1%eth0")).closed  # it was let in, and tries again
    assert not (await reception.comes("db-1", "fe80::2%eth0")).closed
    await pass_time(60)
    assert not (await reception.comes(f"web-{NEW_AT_ONCE}", "fe80::1%eth0")).closed
    assert (await reception.comes(f"web-{NEW_AT_ONCE + 1}", "fe80::1%eth0")).closed


async def test_a_node_that_the_site_knows_is_not_new_at_another_address(site: Site, books: Books) -> None:
    for number in range(NEW_AT_ONCE + 2):
        await Node(books, f"web-{number}").talk()
    async with site.agent("a2") as others:
        reception = Reception(others)
        for number in range(NEW_AT_ONCE + 2):
            assert not (await reception.comes(f"web-{number}", "fe80::1%eth0")).closed


async def test_as_many_new_nodes_as_is_set(books: Books) -> None:
    reception = Reception(books, newcomers=Newcomers(10))
    came = [await reception.comes(f"web-{number}", "fe80::1%eth0") for number in range(11)]
    assert [session.closed for session in came] == [False] * 10 + [True]


async def test_an_address_gets_few_new_leases_at_once_however_many_its_nodes_ask_for(books: Books) -> None:
    newcomers = Newcomers(2)
    for name, peer, due in (("web-1", 1, 6), ("web-2", 1, 2), ("web-3", 1, 0), ("db-1", 2, 6), ("web-1", 1, 6)):
        node = Node(books, name)
        node.served = node.serve(f"fe80::{peer}%eth0", newcomers)
        node.session = NodeSession(
            node.state,
            duid=node.duid,
            name=name,
            interface="eth0",
            associations=tuple(Association(iaid=iaid, family=6) for iaid in range(1, 7)),
            now=0.0,
        )
        await node.talk()
        assert len(books.ledger.leases) <= 14
        assert len(node.addresses) == due
    await pass_time(15)
    assert newcomers.leases(parse_address("fe80::1"), now=asyncio.get_running_loop().time())


def test_what_is_remembered_of_addresses_is_bounded() -> None:
    newcomers = Newcomers()
    for number in range(2 * MAX_PEERS):
        assert newcomers.admits(number.to_bytes(16), bytes(16), now=0.0)
    assert len(newcomers._buckets) == len(newcomers._admitted) == MAX_PEERS


async def test_sessions_of_one_address_are_logged_until_there_are_too_many(books: Books) -> None:
    reception = Reception(books)
    with capture_logs() as lines:
        for _ in range(30):
            await reception.comes("web-1", "fe80::1%eth0")
        await reception.comes("db-1", "fe80::2%eth0")
        reporting = asyncio.create_task(reception.sessions._report())
        await pass_time(REPORT + 1)
        reporting.cancel()
    opened = [line["peer"] for line in lines if line["event"] == "session opened"]
    assert opened == ["fe80::1"] * LINES_AT_ONCE + ["fe80::2"]
    (rest,) = [line for line in lines if line["event"] == "too often to log each"]
    assert rest["session-opened"] == 30 - LINES_AT_ONCE
