"""A node that was entered by a hardware address: what is kept for that is its own from its first session on."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from typing import get_args

import pytest

from dnms.agents.subnet.books import Books
from dnms.bus.committer import Committer
from dnms.domain.aggregate import Fold
from dnms.domain.identity import duid_of_hardware, iaid_of, iaid_of_hardware
from dnms.domain.ledger import Ledger
from dnms.domain.nodes import NodeShard
from dnms.events import subjects
from dnms.events.ip import family
from dnms.events.node import NodeEntered, NodeJoined
from dnms.events.plan import Family
from dnms.events.recorded import Personal, Request
from dnms.events.requests import CompleteNode, EnterNode, HoldAddress, JoinNode, PartNode
from dnms.events.seen import HardwareContested
from dnms.wire.messages import Association
from dnms.wire.node_session import NodeSession
from tests.unit.agents.conftest import SECRET, SITE, SUBNET, Clock, FrailLog, Node, Site, client_id, until

MAC = bytes.fromhex("02005e100001")
ENTRY = client_id(duid_of_hardware(MAC))
IAID = iaid_of_hardware(MAC)
VOIP = 0x5A1E


class Operator:
    """Enters nodes as the API does."""

    def __init__(self, log: FrailLog, clock: Clock) -> None:
        self._log = log
        self._clock = clock

    def _committer(self, subject: str, state: Ledger | NodeShard) -> Committer[Ledger | NodeShard]:
        draws = random.Random(subject).randbytes
        return Committer(self._log, subject, Fold(state), actor="operator/api", now=self._clock.now, random=draws)

    async def write(self, subject: str, state: Ledger | NodeShard, *requests: Request) -> None:
        committer = self._committer(subject, state)
        await committer.catch_up()
        running = asyncio.create_task(committer.run())
        try:
            for request in requests:
                await committer.submit(request)
        finally:
            running.cancel()
            await asyncio.wait((running,))

    async def enter(self, *, group: str = "") -> None:
        """By the hardware address, and with an address of each family."""
        name, hardware = Personal("web"), (Personal(MAC),)
        enter = EnterNode(
            client=ENTRY, duid=Personal(duid_of_hardware(MAC)), name=name, iaid=IAID, hardware=hardware, group=group
        )
        number = VOIP if group else 0
        holds = [HoldAddress(client=ENTRY, iaid=IAID, family=kind, group=number) for kind in get_args(Family)]
        subject = subjects.node(SITE, ENTRY)
        await self.write(subject, NodeShard(), enter)
        await self.write(subjects.ledger(SITE, SUBNET), Ledger(SECRET), *holds)
        await self.write(subject, NodeShard(), CompleteNode(client=ENTRY))


@pytest.fixture
def operator(site: Site, log: FrailLog, clock: Clock) -> Operator:
    return Operator(log, clock)


def machine(books: Books, name: str, *, hardware: bytes = MAC, interface: str = "eth0") -> Node:
    """A node that registers one link `eth0` with this hardware address, and asks for addresses for an interface."""
    node = Node(books, name)
    node.hardware = hardware
    iaid = iaid_of(interface)
    node.session = NodeSession(
        node.state,
        duid=node.duid,
        name=name,
        interface=interface,
        associations=(Association(iaid=iaid, family=6), Association(iaid=iaid, family=4)),
        now=0.0,
    )
    return node


@pytest.fixture
async def entered(books: Books, operator: Operator) -> AsyncIterator[frozenset[bytes]]:
    """The addresses that are kept for the entry."""
    await operator.enter()
    await until(lambda: len(books.ledger.held) == 2)
    await until(lambda: (entry := books.node(ENTRY)) is not None and entry.ready)
    yield frozenset(books.ledger.held)


async def test_it_has_from_its_first_session_on_just_what_is_kept_for_it(
    books: Books, log: FrailLog, entered: frozenset[bytes]
) -> None:
    node = machine(books, "web-1")
    await node.talk()
    assert node.addresses == entered
    assert {books.ledger.held[address] for address in entered} == {(node.client, iaid_of("eth0"))}
    (joined,) = [event for event in log.events() if isinstance(event, NodeJoined)]
    assert (joined.client, joined.into) == (ENTRY, node.client)
    await node.talk()
    again = machine(books, "web-1")
    await again.talk()
    assert again.addresses == entered
    assert sum(isinstance(event, NodeJoined) for event in log.events()) == 1
    known = await books.opened(node.client)
    assert known is not None
    assert known.entered is not None
    assert (known.ready, known.entered.name, known.entered.iaid) == (True, Personal("web"), iaid_of("eth0"))
    assert not node.alarms


async def test_who_comes_with_the_address_of_one_that_has_come_is_an_ordinary_node_and_an_alarm(
    books: Books, log: FrailLog, entered: frozenset[bytes]
) -> None:
    await machine(books, "web-1").talk()
    other = machine(books, "impostor")
    await other.talk()
    assert len(other.addresses) == 2
    assert not other.addresses & entered
    known = books.node(other.client)
    assert known is not None
    assert known.entered is None
    peer = other.served.peer
    assert set(other.alarms) == {HardwareContested(client=other.client, entered=ENTRY, contender=peer)}
    assert sum(isinstance(event, NodeJoined) for event in log.events()) == 1


async def test_nobody_is_recognised_by_what_no_operator_has_entered(books: Books, log: FrailLog) -> None:
    await machine(books, "web-1").talk()
    assert not any(isinstance(event, NodeJoined | NodeEntered) for event in log.events())


async def test_what_was_entered_by_a_duid_is_not_taken_by_a_hardware_address(
    books: Books, log: FrailLog, operator: Operator
) -> None:
    """A machine whose DUID is a DUID-LL says so itself."""
    enter = EnterNode(client=ENTRY, duid=Personal(duid_of_hardware(MAC)), name=Personal("web"), iaid=IAID)
    await operator.write(subjects.node(SITE, ENTRY), NodeShard(), enter)
    await until(lambda: books.node(ENTRY) is not None)
    node = machine(books, "web-1")
    await node.talk()
    assert not any(isinstance(event, NodeJoined) for event in log.events())
    assert not node.alarms


async def test_it_is_recognised_only_where_it_is_expected(books: Books, log: FrailLog, operator: Operator) -> None:
    enter = EnterNode(
        client=ENTRY,
        duid=Personal(duid_of_hardware(MAC)),
        name=Personal("web"),
        iaid=IAID,
        hardware=(Personal(MAC),),
        subnets=("lab",),
    )
    await operator.write(subjects.node(SITE, ENTRY), NodeShard(), enter)
    await until(lambda: books.node(ENTRY) is not None)
    await machine(books, "web-1").talk()
    assert not any(isinstance(event, NodeJoined) for event in log.events())


async def test_another_interface_of_it_does_not_take_what_is_kept(books: Books, entered: frozenset[bytes]) -> None:
    node = machine(books, "web-1", interface="eth1")
    await node.talk()
    assert len(node.addresses) == 2
    assert not node.addresses & entered


async def test_a_node_that_is_here_goes_over_when_it_is_entered(books: Books, operator: Operator) -> None:
    node = machine(books, "web-1")
    await node.talk()
    before = {kind: set(node.new_connections_from(kind)) for kind in (4, 6)}
    books.take_due()
    await operator.enter(group="voip")

    async def pushed() -> bool:
        await until(books.changed.is_set)
        due = books.take_due()
        assert due is None or node.served.is_any_of(due)
        await node.served.push()
        await node.talk()
        return {books.ledger.held.get(address) for address in node.new_connections_from(6)} == {
            (node.client, iaid_of("eth0"))
        }

    async with asyncio.timeout(5):
        while not await pushed():
            pass
    [now] = node.new_connections_from(6)
    assert now[8:10] == VOIP.to_bytes(2)
    assert before[6] < {each for each in node.addresses if family(each) == 6}  # what began with the old one goes on


async def test_two_agents_take_an_entry_once(site: Site, books: Books, entered: frozenset[bytes]) -> None:
    async with site.agent("a2") as others:
        nodes = [machine(books, "web-1"), machine(others, "web-2")]
        await asyncio.gather(*(node.talk() for node in nodes))
        assert sorted(node.addresses == entered for node in nodes) == [False, True]
        assert sum(bool(node.alarms) for node in nodes) == 1
        assert not nodes[0].addresses & nodes[1].addresses


async def test_a_join_that_was_interrupted_goes_on(
    books: Books, log: FrailLog, operator: Operator, entered: frozenset[bytes]
) -> None:
    """An agent that was killed has used the entry up for the node, and done no more."""
    node = machine(books, "web-1")
    join = JoinNode(client=ENTRY, into=node.client, hardware=Personal(MAC))
    await operator.write(subjects.node(SITE, ENTRY), NodeShard(), join)
    await until(lambda: (entry := books.node(ENTRY)) is not None and entry.joined == node.client)
    await node.talk()
    assert node.addresses == entered
    known = books.node(node.client)
    assert known is not None
    assert known.ready
    assert not node.alarms
    assert sum(isinstance(event, NodeJoined) for event in log.events()) == 1


async def test_an_entry_that_is_parted_waits_for_the_next_machine_and_not_for_the_same_one(
    books: Books, operator: Operator, entered: frozenset[bytes]
) -> None:
    wrong = machine(books, "wrong")
    await wrong.talk()
    assert wrong.addresses == entered
    await operator.write(subjects.node(SITE, ENTRY), NodeShard(), PartNode(client=ENTRY))
    await operator.enter()  # as the API goes on: what was kept stays with the machine
    await until(lambda: (entry := books.node(ENTRY)) is not None and not entry.joined and entry.ready)
    await until(lambda: len(books.ledger.held) == 4)
    again = machine(books, "wrong")
    await again.talk()
    assert again.addresses == entered
    assert not again.alarms
    right = machine(books, "right")
    await right.talk()
    assert right.addresses == frozenset(books.ledger.held) - entered
    assert (entry := books.node(ENTRY)) is not None
    assert entry.joined == right.client
