from __future__ import annotations

import asyncio

from dnms.agents.pump import Pump
from dnms.agents.subnet.books import Books
from dnms.agents.subnet.served import Introduction, ServedNode
from dnms.agents.subnet.sessions import LEAVE_WITHIN, REPLACED, Sessions
from dnms.events.ip import parse_address
from dnms.events.seen import IdentityContested, SessionClosed
from dnms.wire import agent_events as heard
from dnms.wire.agent_session import AgentSession
from tests.unit.agents.conftest import SITE, SUBNET, FrailLog, Node, client_id
from tests.virtual_time import pass_time


def silent(session: AgentSession) -> Pump[heard.AgentEvent]:
    """A pump without a connection."""
    return Pump(session, asyncio.StreamReader(), None)  # type: ignore[arg-type]


class Reception:
    """The sessions of an agent, and machines that come to it without a socket."""

    def __init__(self, books: Books) -> None:
        self.books = books
        self.introduction = Introduction("a1", SITE, SUBNET)
        self.sessions = Sessions(
            books,
            self.introduction,
            client_id=client_id,
        )

    async def comes(self, name: str, peer: str) -> AgentSession:
        """A machine that has the DUID of the node `name` says hello from `peer`."""
        node = Node(self.books, name)
        session = AgentSession(now=0.0)
        served = ServedNode(session, self.books, self.introduction, peer=peer)
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
