"""What of the configurations that nodes tell gets into the log."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from dnms.agents.subnet.books import Books
from dnms.agents.subnet.observations import HOUR, LOOK, MOST, WHOLE_AFTER
from dnms.domain.configured import changed
from dnms.events.configuration import InterfaceAddress, Link, Snapshot
from dnms.events.ip import parse_address
from dnms.events.recorded import Event, Personal
from dnms.events.seen import ConfigurationChanged, ConfigurationFlapped, ConfigurationRegistered, SessionOpened
from tests.unit.agents.conftest import FrailLog, Node, Site
from tests.virtual_time import pass_time

HELD = InterfaceAddress(
    interface=2, address=parse_address("2001:db8:9::1"), prefix_length=64, origin="slaac", preferred=300, valid=600
)


@pytest.fixture
async def node(books: Books) -> Node:
    node = Node(books, "web-1")
    node.configured = (HELD,)
    await node.talk()
    return node


def said(log: FrailLog) -> list[Event]:
    kinds = ConfigurationRegistered | ConfigurationChanged | ConfigurationFlapped
    return [event for event in log.events() if isinstance(event, kinds)]


def now(log: FrailLog) -> Snapshot:
    """What the log says that the node has."""
    snapshot = Snapshot()
    for event in said(log):
        if isinstance(event, ConfigurationRegistered):
            snapshot = event.snapshot
        elif isinstance(event, ConfigurationChanged):
            snapshot = changed(snapshot, event.change)
    return snapshot


async def tell(node: Node, **fields: Any) -> Snapshot:
    """The node has this, and tells it as soon as it may."""
    eth0 = Link(index=2, name="eth0", hardware=Personal(node.hardware))
    snapshot = Snapshot(**{"links": (eth0,), "addresses": (HELD,), **fields})
    node.session.observe(snapshot, node.now)
    await node.talk()
    while node.session.deadline() is not None and node.session._observing.deadline() != float("inf"):
        node.pass_time(31)  # it was told to wait
        await pass_time(31)
        await node.talk()
    return snapshot


async def test_only_what_changed_is_recorded(node: Node, log: FrailLog) -> None:
    first = said(log)
    assert [type(event) for event in first] == [ConfigurationRegistered]
    snapshot = await tell(node, kernel="6.2")
    (change,) = said(log)[1:]
    assert isinstance(change, ConfigurationChanged)
    assert change.change.kernel == "6.2"
    assert not change.change.links
    assert not change.change.addresses
    assert (now(log).kernel, now(log).addresses) == (snapshot.kernel, snapshot.addresses)


async def test_lifetimes_that_run_down_are_not_recorded(node: Node, log: FrailLog) -> None:
    kernel = now(log).kernel
    for left in (200, 100, 10):
        held = msgspec.structs.replace(HELD, preferred=left, valid=300 + left)
        await tell(node, addresses=(held,), kernel=kernel)
    assert len(said(log)) == 1
    deprecated = msgspec.structs.replace(HELD, preferred=0, valid=290, flags=0x20)
    await tell(node, addresses=(deprecated,), kernel=kernel)
    (change,) = said(log)[1:]
    assert isinstance(change, ConfigurationChanged)
    assert change.change.addresses == (deprecated,)


async def test_a_node_that_comes_again_as_it_was_is_not_recorded_again(node: Node, books: Books, log: FrailLog) -> None:
    again = Node(books, "web-1", state=node.state)
    again.configured = (msgspec.structs.replace(HELD, preferred=1, valid=2),)
    await again.talk()
    assert len([event for event in log.events() if isinstance(event, SessionOpened)]) == 2
    assert len(said(log)) == 1


async def test_one_that_another_agent_has_heard_meanwhile_is_recorded_whole(
    node: Node, site: Site, books: Books, log: FrailLog
) -> None:
    async with site.agent("a2") as other:
        there = Node(other, "web-1", state=node.state)
        there.configured = ()
        await there.talk()
    back = Node(books, "web-1", state=there.state)
    back.configured = (HELD,)
    await back.talk()
    assert [type(event) for event in said(log)] == [ConfigurationRegistered] * 3
    assert now(log).addresses == (HELD,)


async def test_now_and_then_all_of_it_is_recorded(node: Node, books: Books, log: FrailLog) -> None:
    recording = asyncio.create_task(books.observations.run())
    for number in range(2 * WHOLE_AFTER):
        await tell(node, kernel=f"6.{number}")
        await pass_time(HOUR / MOST + LOOK)
    kinds = [type(event) for event in said(log)]
    assert kinds.count(ConfigurationRegistered) == 2
    assert ConfigurationFlapped not in kinds
    recording.cancel()
    await asyncio.wait((recording,))


async def test_who_never_rests_is_summarised_each_hour_and_where_it_came_to_is_known(
    node: Node, books: Books, log: FrailLog
) -> None:
    recording = asyncio.create_task(books.observations.run())
    began = asyncio.get_running_loop().time()
    number = 0
    while asyncio.get_running_loop().time() < began + 3 * HOUR:
        await tell(node, kernel=f"6.{number}")
        await pass_time(10)
        number += 1
    assert number > 4 * MOST
    assert len(said(log)) <= 4 * (MOST + 2)
    summaries = [event for event in said(log) if isinstance(event, ConfigurationFlapped)]
    assert 2 <= len(summaries) <= 3
    await pass_time(HOUR + 2 * LOOK)
    assert now(log).kernel == f"6.{number - 1}"
    recorded = sum(isinstance(event, ConfigurationChanged) for event in said(log))
    summaries = [event for event in said(log) if isinstance(event, ConfigurationFlapped)]
    wholes = sum(isinstance(event, ConfigurationRegistered) for event in said(log)) - 1
    assert sum(each.changes for each in summaries) + recorded + wholes - len(summaries) == number
    recording.cancel()
    await asyncio.wait((recording,))


async def test_an_agent_that_ends_records_where_its_nodes_came_to(node: Node, books: Books, log: FrailLog) -> None:
    recording = asyncio.create_task(books.observations.run())
    for number in range(MOST + 5):
        await tell(node, kernel=f"6.{number}")
    recording.cancel()
    await asyncio.wait((recording,))
    assert now(log).kernel == f"6.{MOST + 4}"


async def test_what_could_not_be_recorded_is_not_lost(node: Node, log: FrailLog) -> None:
    log.cut = True
    node.session.observe(Snapshot(kernel="6.2"), node.now)
    await node.talk()
    log.cut = False
    await tell(node, kernel="6.3")
    assert now(log).kernel == "6.3"


async def test_after_a_refusal_of_the_log_it_is_recorded_whole(node: Node, books: Books, log: FrailLog) -> None:
    books.observations.forget(node.client)  # as when the log did not take it
    await tell(node, kernel="6.2")
    assert [type(event) for event in said(log)] == [ConfigurationRegistered] * 2


async def test_who_says_each_time_that_it_has_told_another_is_recorded_no_more_often(
    node: Node, books: Books, log: FrailLog
) -> None:
    for number in range(3 * MOST):
        snapshot = Snapshot(kernel=f"6.{number}")
        digest, follows = bytes([number]) * 32, b"another's"
        for event in books.observations.news(node.client, snapshot, digest=digest, follows=follows):
            await books.observe(event)
    assert len(said(log)) <= MOST + 1
    recording = asyncio.create_task(books.observations.run())
    await pass_time(HOUR + 2 * LOOK)
    assert any(isinstance(event, ConfigurationFlapped) for event in said(log))
    assert now(log).kernel == f"6.{3 * MOST - 1}"
    recording.cancel()
    await asyncio.wait((recording,))
