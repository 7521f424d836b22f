"""One machine by its hardware address alone, and by a DUID of its own, is one node: as far as that is safe."""

from __future__ import annotations

from random import Random

import pytest

from dnms.agents.subnet.books import Books
from dnms.agents.subnet.dhcp4_server import Dhcp4Server
from dnms.agents.subnet.dhcp6_server import Dhcp6Server
from dnms.agents.subnet.newcomers import Newcomers
from dnms.domain.identity import duid_of_hardware, iaid_of_hardware
from dnms.events.ip import parse_address
from dnms.events.node import NodeJoined
from dnms.events.recorded import Personal
from dnms.events.requests import EnterNode, JoinNode, PartNode
from dnms.wire.dhcp6.codes import Kind
from tests.unit.agents.conftest import FrailLog, client_id
from tests.unit.agents.dhcp4_line import Client
from tests.unit.agents.dhcp4_line import Wire as Wire4
from tests.unit.agents.dhcp6_wire import PEER, Wire, alarms, books, server, wire
from tests.unit.agents.test_dhcp6_addresses import ask, lease
from tests.unit.agents.test_joining import machine
from tests.virtual_time import pass_time

__all__ = ["alarms", "books", "server", "wire"]

MAC = bytes.fromhex("02005e100001")
ALONE, UUID = duid_of_hardware(MAC), b"\x00\x04" + bytes(range(16))
LLT = b"\x00\x01\x00\x01\x12\x34\x56\x78" + MAC
FE80 = parse_address(PEER[0].partition("%")[0])


@pytest.fixture
async def client(books: Books, server: Dhcp6Server) -> Client:
    """A DHCPv4 client of the same machine, that says its hardware address alone."""
    wire = Wire4()
    serving = Dhcp4Server(books, wire, client_id=client_id, newcomers=Newcomers(), random=Random(1).randbytes)
    server._tasks.create_task(serving.run())
    await pass_time(1)
    return Client(wire, hardware=MAC)


def joined(log: FrailLog) -> list[tuple[bytes, bytes]]:
    return [(event.client, event.into) for event in log.events() if isinstance(event, NodeJoined)]


async def test_by_dhcpv4_and_by_dhcpv6_it_is_one_node(
    log: FrailLog, wire: Wire, server: Dhcp6Server, client: Client
) -> None:
    wire.neighbours[FE80] = MAC
    await client.has()
    mine = await lease(wire, client_id=UUID)
    assert joined(log) == [(client_id(ALONE), client_id(UUID))]
    await ask(wire, Kind.RENEW, mine, client_id=UUID)
    await client.has()
    assert len(joined(log)) == 1


async def test_who_comes_by_dhcpv6_first_is_joined_when_it_asks_again(
    log: FrailLog, wire: Wire, server: Dhcp6Server, client: Client
) -> None:
    wire.neighbours[FE80] = MAC
    mine = await lease(wire, client_id=UUID)
    await client.has()
    assert joined(log) == []
    await ask(wire, Kind.RENEW, mine, client_id=UUID)
    assert joined(log) == [(client_id(ALONE), client_id(UUID))]


async def test_a_node_with_an_agent_was_it_before(
    books: Books, log: FrailLog, server: Dhcp6Server, client: Client
) -> None:
    await client.has()
    node = machine(books, "web", hardware=MAC)
    await node.talk()
    assert joined(log) == [(client_id(ALONE), node.client)]


async def test_who_says_a_duid_by_dhcpv4_was_it_before(log: FrailLog, server: Dhcp6Server, client: Client) -> None:
    await client.has()
    await client.has(client_id=b"\xff" + bytes(4) + UUID)
    assert joined(log) == [(client_id(ALONE), client_id(UUID))]


async def test_what_a_duid_has_in_it_says_nothing_of_who_uses_the_address_now(
    log: FrailLog, wire: Wire, server: Dhcp6Server, client: Client
) -> None:
    """The disk was copied to another machine."""
    wire.neighbours[FE80] = bytes.fromhex("02005e100002")
    await client.has()
    await lease(wire, client_id=LLT)
    assert joined(log) == []


async def test_a_second_duid_of_the_address_is_a_node_of_its_own(
    log: FrailLog, wire: Wire, server: Dhcp6Server, client: Client
) -> None:
    wire.neighbours[FE80] = MAC
    await client.has()
    for duid in (UUID, LLT):
        await lease(wire, client_id=duid)
    assert joined(log) == [(client_id(ALONE), client_id(UUID))]


async def test_what_an_operator_has_parted_stays_so(
    books: Books, log: FrailLog, wire: Wire, server: Dhcp6Server, client: Client
) -> None:
    wire.neighbours[FE80] = MAC
    await client.has()
    mine = await lease(wire, client_id=UUID)
    await books.tell(PartNode(client=client_id(ALONE)))  # type: ignore[arg-type]  # which the API asks of it
    await ask(wire, Kind.RENEW, mine, client_id=UUID)
    assert len(joined(log)) == 1


async def test_what_an_operator_has_entered_waits_for_what_is_kept_for_it(
    books: Books, log: FrailLog, wire: Wire, server: Dhcp6Server, client: Client
) -> None:
    await client.has()
    duid, hardware = Personal(ALONE), (Personal(MAC),)
    entry = EnterNode(
        client=client_id(ALONE), duid=duid, name=Personal("x"), iaid=iaid_of_hardware(MAC), hardware=hardware
    )
    await books.tell(entry)
    wire.neighbours[FE80] = MAC
    await lease(wire, client_id=UUID)
    assert joined(log) == []


async def test_what_an_operator_has_joined_others_into_is_left_to_him(
    books: Books, log: FrailLog, wire: Wire, server: Dhcp6Server, client: Client
) -> None:
    await client.has()
    await lease(wire, client_id=LLT)
    await books.tell(JoinNode(client=client_id(LLT), into=client_id(ALONE)))
    wire.neighbours[FE80] = MAC
    await pass_time(700)
    await lease(wire, client_id=UUID)
    assert joined(log) == [(client_id(LLT), client_id(ALONE))]
