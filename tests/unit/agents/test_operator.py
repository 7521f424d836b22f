"""What an operator writes into a ledger reaches a node that has a session, without its asking."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from typing import get_args

import pytest

from dnms.agents.subnet.books import Books
from dnms.bus.committer import Committer
from dnms.domain.aggregate import Fold
from dnms.domain.ledger import Ledger
from dnms.domain.nodes import NodeShard
from dnms.events import subjects
from dnms.events.ip import parse_address
from dnms.events.plan import Family
from dnms.events.recorded import Personal
from dnms.events.requests import EnterNode, HoldAddress, MoveAddress, UnholdAddress, WithdrawAddress
from tests.unit.agents.conftest import SECRET, SITE, SUBNET, Clock, FrailLog, Node, Site, until

FIXED = parse_address("2001:db8:1:1::77")


@pytest.fixture
async def operator(site: Site, log: FrailLog, clock: Clock) -> AsyncIterator[Committer[Ledger]]:
    """A writer of the ledger beside the agent, that follows nothing, as `dnms serve` has it."""
    committer = Committer(
        log,
        subjects.ledger(SITE, SUBNET),
        Fold(Ledger(SECRET)),
        actor="operator/api",
        now=clock.now,
        random=random.Random(2).randbytes,
    )
    running = asyncio.create_task(committer.run())
    try:
        yield committer
    finally:
        running.cancel()
        await asyncio.wait((running,))


async def told(node: Node) -> None:
    """The agent has seen that something is due to the node, and pushes it."""
    await until(node.books.changed.is_set)
    due = node.books.take_due()
    assert due is None or node.client in due
    await node.served.push()
    await node.talk()


def preferred_and_deprecated(node: Node) -> tuple[list[bytes], list[bytes]]:
    assert node.state.assignment
    found = [each for each in node.state.assignment.addresses if len(each.address) == 16 and each.prefix_length == 64]
    return [e.address for e in found if e.preferred], [e.address for e in found if not e.preferred]


async def test_a_reservation_and_its_end_reach_a_session(books: Books, operator: Committer[Ledger]) -> None:
    node = Node(books, "web-1")
    await node.talk()
    books.take_due()
    [before] = node.new_connections_from(6)
    await operator.catch_up()
    await operator.submit(HoldAddress(client=node.client, iaid=1, family=6, address=FIXED))
    await told(node)
    assert preferred_and_deprecated(node) == ([FIXED], [before])
    assert {before, FIXED} <= node.addresses  # what began with the old one goes on
    await until(lambda: operator.fold.sequence <= books.position)
    await operator.submit(UnholdAddress(client=node.client, iaid=1, address=FIXED))
    await until(lambda: not books.ledger.held)
    await node.served.push()
    await node.talk()
    assert node.new_connections_from(6) == [FIXED]  # its lease goes on


async def test_a_move_reaches_a_session(books: Books, operator: Committer[Ledger]) -> None:
    node = Node(books, "web-1")
    await node.talk()
    books.take_due()
    [before] = node.new_connections_from(6)
    await operator.catch_up()
    await operator.submit(MoveAddress(client=node.client, iaid=1, address=before, to=FIXED))
    await told(node)
    assert preferred_and_deprecated(node) == ([FIXED], [before])
    await operator.submit(MoveAddress(client=node.client, iaid=1, address=FIXED))
    await told(node)
    [after], deprecated = preferred_and_deprecated(node)
    assert after not in (before, FIXED)
    assert set(deprecated) == {before, FIXED}


async def test_the_end_of_a_lease_reaches_a_session(books: Books, operator: Committer[Ledger]) -> None:
    node = Node(books, "web-1")
    await node.talk()
    books.take_due()
    [before] = node.new_connections_from(4)
    await operator.catch_up()
    await operator.submit(WithdrawAddress(client=node.client, iaid=1, address=before))
    await told(node)
    assert len(node.new_connections_from(4)) == 1  # it is there and wants one, so it is given one


async def test_the_agent_and_the_operator_write_one_ledger_without_losing_anything(
    books: Books, operator: Committer[Ledger], log: FrailLog
) -> None:
    """Both at once, neither having folded what the other writes: the expected sequence puts them in their order."""
    nodes = [Node(books, f"web-{number}") for number in range(8)]
    holds = [
        HoldAddress(client=bytes([number]) * 16, iaid=1, family=6, address=FIXED[:15] + bytes([number]))
        for number in range(1, 9)
    ]
    await operator.catch_up()
    await asyncio.gather(*(node.talk() for node in nodes), *(operator.submit(hold) for hold in holds))
    await operator.catch_up()
    await until(lambda: books.position == operator.fold.sequence)
    assert books.ledger.leases == operator.fold.state.leases
    assert books.ledger.held == operator.fold.state.held
    assert (len(books.ledger.leases), len(books.ledger.held)) == (16, 8)


async def test_the_group_that_an_operator_entered_wins_over_the_patterns(
    books: Books, log: FrailLog, clock: Clock
) -> None:
    """Before the node comes, and while it is there."""
    node = Node(books, "phone-1")  # which a pattern of the plan puts into `voip`
    other = Node(books, "web-1")
    await other.talk()
    [before] = other.new_connections_from(6)
    books.take_due()
    for each in (node, other):
        subject = subjects.node(SITE, each.client)
        shard = Committer(
            log, subject, Fold(NodeShard()), actor="operator/api", now=clock.now, random=random.Random(3).randbytes
        )
        await shard.catch_up()
        running = asyncio.create_task(shard.run())
        group = "voip" if each is other else "nowhere"  # a group that the plan has no more says nothing
        name = Personal("entered")
        await shard.submit(EnterNode(client=each.client, duid=Personal(each.duid), name=name, iaid=1, group=group))
        running.cancel()
        await asyncio.wait((running,))
    await told(other)
    [after] = other.new_connections_from(6)
    assert (before[8:10], after[8:10]) == (b"\x00\x00", b"\x5a\x1e")
    await node.talk()
    assert node.new_connections_from(6)[0][8:10] == b"\x5a\x1e"


async def test_a_node_that_was_entered_is_given_what_is_kept_for_it(books: Books, operator: Committer[Ledger]) -> None:
    node = Node(books, "web-1")
    await operator.catch_up()
    for kind in get_args(Family):
        await operator.submit(HoldAddress(client=node.client, iaid=1, family=kind))
    await until(lambda: len(books.ledger.held) == 2)
    await node.talk()
    assert node.addresses == set(books.ledger.held)
