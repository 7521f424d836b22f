"""Nodes that say that they have what another was given: the link decides, and not what they say."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection

import pytest
from structlog.testing import capture_logs

from dnms.agents.subnet.books import Books
from dnms.agents.subnet.claims import MAX_CLAIMS, PAUSE, Claims
from dnms.domain.declining import MAX_DECLINES
from dnms.events import codec
from dnms.events.address import AddressAllocated, AddressBlocked, AddressWithdrawn
from dnms.events.configuration import InterfaceAddress
from dnms.events.ip import family, parse_address
from dnms.events.requests import HoldAddress
from dnms.events.seen import ConfigurationRegistered
from dnms.linux.errors import KernelError
from tests.unit.agents.conftest import FrailLog, Node, Site
from tests.virtual_time import pass_time

ROUTER = b"\x02router"[:6]


class Segment:
    """The link: who answers for which address."""

    def __init__(self) -> None:
        self.answers: dict[bytes, set[bytes]] = {}
        self.asked: list[frozenset[bytes]] = []
        self.down = False

    async def users(self, addresses: Collection[bytes]) -> dict[bytes, frozenset[bytes]]:
        self.asked.append(frozenset(addresses))
        await pass_time(1)
        if self.down:
            raise KernelError("down", "the link is down")
        return {address: frozenset(self.answers.get(address, ())) for address in addresses}


class Office:
    """An agent on that link."""

    def __init__(self, books: Books) -> None:
        self.books = books
        self.segment = Segment()
        self.claims = Claims(books, self.segment.users)
        self.nodes: list[Node] = []

    async def join(self, name: str, *, has: Collection[bytes] = ()) -> Node:
        """A node that has these addresses of somebody else."""
        node = Node(self.books, name)
        node.served = node.serve("fe80::5%eth0", claims=self.claims)
        node.configured = tuple(
            InterfaceAddress(interface=2, address=each, prefix_length=120, origin="other") for each in has
        )
        await node.talk()
        self.nodes.append(node)
        return node

    async def settle(self) -> None:
        """Look into the claims, and tell the nodes what came of that."""
        await pass_time(PAUSE + 2)
        due = self.books.take_due()
        for node in self.nodes:
            if due is None or node.client in due:
                await node.served.push()
            await node.talk()


def lost(log: FrailLog, node: Node) -> list[bytes]:
    return [
        event.address for event in log.events() if isinstance(event, AddressWithdrawn) and event.client == node.client
    ]


@pytest.fixture
async def office(books: Books) -> AsyncIterator[Office]:
    office = Office(books)
    looking = asyncio.create_task(office.claims.run())
    yield office
    assert not looking.done()
    looking.cancel()
    await asyncio.wait((looking,))


@pytest.mark.parametrize("kind", [4, 6])
@pytest.mark.parametrize("both", [False, True], ids=["claimant-answers", "both-answer"])
async def test_who_was_given_what_another_has_on_the_link_is_moved_at_once(
    office: Office, log: FrailLog, kind: int, both: bool
) -> None:
    holder = await office.join("web-1")
    (taken,) = holder.new_connections_from(kind)
    user = await office.join("printer", has=[taken])
    office.segment.answers[taken] = {user.hardware} | ({holder.hardware} if both else set())
    with capture_logs() as lines:
        await office.settle()
    assert lost(log, holder) == [taken]
    (blocked,) = [event for event in log.events() if isinstance(event, AddressBlocked)]
    assert (blocked.address, blocked.client) == (taken, user.client)
    said = codec.decode(log.records[blocked.cause - 1].data).events
    assert any(isinstance(event, ConfigurationRegistered) and event.client == user.client for event in said)
    (now,) = holder.new_connections_from(kind)
    assert now != taken
    assert taken not in holder.addresses
    assert {family(address) for address in holder.addresses} == {4, 6}
    assert [line["log_level"] for line in lines if "is moved" in line["event"]] == ["error"]
    third = await office.join("web-3")
    assert taken not in third.addresses | user.addresses


@pytest.mark.parametrize("who", ["nobody", "holder", "router"])
async def test_a_claim_that_the_link_does_not_confirm_takes_nothing_from_anybody(
    office: Office, log: FrailLog, who: str
) -> None:
    holder = await office.join("web-1")
    (taken,) = holder.new_connections_from(4)
    await office.join("liar", has=[taken])
    office.segment.answers[taken] = {"nobody": set(), "holder": {holder.hardware}, "router": {ROUTER}}[who]
    await office.settle()
    assert office.segment.asked == [{taken}]
    assert not lost(log, holder)
    assert not [event for event in log.events() if isinstance(event, AddressBlocked)]
    assert holder.new_connections_from(4) == [taken]


async def test_a_machine_that_was_installed_anew_takes_nothing_from_its_former_self(
    office: Office, log: FrailLog
) -> None:
    """It has another DUID, the same hardware, and still the address that it was given."""
    former = await office.join("web-1")
    (address,) = former.new_connections_from(4)
    again = Node(office.books, "web-1-again")
    again.served = again.serve("fe80::5%eth0", claims=office.claims)
    again.configured = (InterfaceAddress(interface=2, address=address, prefix_length=120, origin="other"),)
    again.hardware = former.hardware
    await again.talk()
    office.segment.answers[address] = {former.hardware}
    await office.settle()
    assert office.segment.asked
    assert not lost(log, former)


async def test_what_is_kept_for_a_node_is_looked_into_as_well(office: Office, log: FrailLog) -> None:
    kept = parse_address("192.0.2.9")
    owner = await office.join("web-1")
    owner.agent.bye("test")
    await office.books.decide(HoldAddress(client=owner.client, iaid=9, family=4, address=kept))
    await office.join("liar", has=[kept])
    await office.settle()
    assert not [event for event in log.events() if isinstance(event, AddressBlocked)]
    user = await office.join("printer", has=[kept])
    office.segment.answers[kept] = {user.hardware}
    await office.settle()
    assert [event.client for event in log.events() if isinstance(event, AddressBlocked)] == [user.client]


async def test_one_node_cannot_take_more_from_others_than_a_few(office: Office, log: FrailLog) -> None:
    holders = [await office.join(f"web-{number}") for number in range(MAX_DECLINES + 3)]
    taken = [address for node in holders for address in node.new_connections_from(6)]
    user = await office.join("printer", has=taken)
    for address in taken:
        office.segment.answers[address] = {user.hardware}
    await office.settle()
    await office.settle()
    assert sum(len(lost(log, node)) for node in holders) == MAX_DECLINES


async def test_a_flood_of_claims_is_cut_short(office: Office) -> None:
    addresses = [parse_address(f"2001:db8:1:1::{number:x}") for number in range(2 * MAX_CLAIMS)]
    for number, address in enumerate(addresses):
        office.claims.add(number.to_bytes(16), frozenset(), [address], cause=1)
        office.claims.add(number.to_bytes(16), frozenset(), [address], cause=1)  # known
    await pass_time(PAUSE + 2 * MAX_CLAIMS)
    assert sum(map(len, office.segment.asked)) == MAX_CLAIMS
    office.claims.add(bytes(16), frozenset(), addresses[:1], cause=1)  # and then there is room again
    await pass_time(PAUSE + 2)
    assert sum(map(len, office.segment.asked)) == MAX_CLAIMS + 1


async def test_a_link_that_cannot_be_asked_proves_nothing_and_is_asked_about_the_next(
    office: Office, log: FrailLog
) -> None:
    holder = await office.join("web-1")
    (taken,) = holder.new_connections_from(4)
    office.segment.down = True
    user = await office.join("printer", has=[taken])
    office.segment.answers[taken] = {user.hardware}
    await office.settle()
    assert not lost(log, holder)
    office.segment.down = False
    user.agent.bye("test")
    await office.join("printer", has=[taken])
    await office.settle()
    assert lost(log, holder) == [taken]


async def test_what_was_given_back_while_the_link_was_asked_is_no_conflict(
    office: Office, log: FrailLog, site: Site
) -> None:
    holder = await office.join("web-1")
    (taken,) = holder.new_connections_from(4)
    user = await office.join("printer", has=[taken])
    office.segment.answers[taken] = {user.hardware}
    await pass_time(PAUSE + 0.5)
    assert office.segment.asked
    holder.session.release(holder.now)
    await holder.talk()
    await office.settle()
    assert not [event for event in log.events() if isinstance(event, AddressBlocked | AddressWithdrawn)]
    assert len([event for event in log.events() if isinstance(event, AddressAllocated)]) == 4
