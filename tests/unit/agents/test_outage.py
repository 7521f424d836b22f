"""A Subnet Agent while the log is away: who asks is told in time, and what nobody waits for is recorded afterwards."""

from __future__ import annotations

import asyncio

import pytest

from dnms.agents.subnet.books import Books
from dnms.bus.append import PATIENCE
from dnms.bus.port import Unanswered
from dnms.domain.outage import OUTAGE
from dnms.events.recorded import Event
from dnms.events.seen import ConfigurationApplied, SessionClosed, SessionOpened
from dnms.wire import node_events
from dnms.wire.channel import Closed
from tests.unit.agents.conftest import FrailLog, Node
from tests.virtual_time import pass_time

LONG = 10 * PATIENCE


def sessions_of(node: Node, log: FrailLog) -> list[type[Event]]:
    return [
        type(event)
        for event in log.events()
        if isinstance(event, SessionOpened | SessionClosed) and event.client == node.client
    ]


async def test_who_comes_behind_a_commit_that_fails_does_not_wait_as_long_again(books: Books, log: FrailLog) -> None:
    log.cut = True
    loop = asyncio.get_running_loop()
    told: dict[str, float] = {}

    async def come(name: str, after: float) -> None:
        await pass_time(after)
        node, came = Node(books, name), loop.time()
        await node.talk()
        assert [event.said for event in node.heard if isinstance(event, Closed)] == [OUTAGE]
        told[name] = loop.time() - came

    await asyncio.gather(come("web-1", 0.0), come("web-2", 1.0), come("web-3", 14.0))
    assert max(told.values()) < PATIENCE + 1.0


async def test_the_end_of_a_session_in_an_outage_is_recorded_after_it(books: Books, log: FrailLog) -> None:
    node = Node(books, "web-1")
    await node.talk()
    log.cut = True
    node.session.leave(0.0)
    await node.talk()
    await pass_time(LONG)
    assert sessions_of(node, log) == [SessionOpened]
    log.cut = False
    await books.settled()
    assert sessions_of(node, log) == [SessionOpened, SessionClosed]


async def test_a_node_that_is_back_at_once_finds_its_old_session_closed(books: Books, log: FrailLog) -> None:
    node = Node(books, "web-1")
    await node.talk()
    log.cut = True
    node.session.leave(0.0)
    await node.talk()
    await pass_time(LONG)
    log.cut = False
    await Node(books, "web-1", state=node.state).talk()
    await books.settled()
    assert sessions_of(node, log) == [SessionOpened, SessionClosed, SessionOpened]


async def test_what_a_node_applied_in_an_outage_is_recorded_after_it(books: Books, log: FrailLog) -> None:
    class Late(Node):
        def _obey(self, event: node_events.NodeEvent) -> None:
            log.cut = log.cut or isinstance(event, node_events.Assigned)
            super()._obey(event)

    node = Late(books, "web-1")
    await node.talk()
    await pass_time(LONG)
    assert len(node.addresses) == 2
    assert not any(isinstance(event, ConfigurationApplied) for event in log.events())
    log.cut = False
    await books.settled()
    (applied,) = [event for event in log.events() if isinstance(event, ConfigurationApplied)]
    assert {item.address for item in applied.items} == node.addresses


async def test_a_session_that_is_perhaps_in_the_log_is_closed_there(
    books: Books, log: FrailLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    observe = books.observe

    async def unheard(*events: Event) -> None:
        await observe(*events)
        raise Unanswered("the answer is lost")

    monkeypatch.setattr(books, "observe", unheard)
    node = Node(books, "web-1")
    await node.talk()
    assert [event.said for event in node.heard if isinstance(event, Closed)] == [OUTAGE]
    assert sessions_of(node, log) == [SessionOpened, SessionClosed]
