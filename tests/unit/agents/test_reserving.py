"""What the plan reserves for a DUID or a hardware address is given to who comes with that, at its first message."""

from __future__ import annotations

from random import Random

import pytest

from dnms.agents.subnet.books import Books
from dnms.agents.subnet.dhcp4_server import Dhcp4Server
from dnms.agents.subnet.dhcp6_neighbours import ASKED_AT_ONCE
from dnms.agents.subnet.dhcp6_server import Dhcp6Server
from dnms.agents.subnet.newcomers import Newcomers
from dnms.domain.identity import duid_of_hardware, iaid_of
from dnms.events.ip import parse_address
from dnms.events.recorded import Personal
from dnms.wire.dhcp4.codes import Kind as Kind4
from dnms.wire.dhcp6.associations import IaNa
from dnms.wire.dhcp6.codes import Kind
from dnms.wire.dhcp6.messages import Message, encode
from dnms.wire.dhcp6.options import Options
from tests.unit.agents.conftest import Site, client_id
from tests.unit.agents.dhcp4_line import Client
from tests.unit.agents.dhcp4_line import Wire as Wire4
from tests.unit.agents.dhcp6_wire import PEER, SERVED, SERVER, Wire, alarms, books, server, serving, wire
from tests.unit.agents.test_dhcp6_addresses import ask, lease, na_of
from tests.unit.agents.test_joining import machine
from tests.virtual_time import pass_time

__all__ = ["alarms", "books", "server", "wire"]

MAC = bytes.fromhex("02005e100001")
SIX, FOUR = parse_address("2001:db8:1:1::beef"), parse_address("192.0.2.9")
DUID_LL, DUID_LLT = duid_of_hardware(MAC), b"\x00\x01\x00\x01\x12\x34\x56\x78" + MAC
DUID_UUID, INSTALLER = b"\x00\x04" + bytes(range(16)), b"\x00\x04" + b"\x07" * 16
FE80 = parse_address(PEER[0].partition("%")[0])


def reserving(duid: bytes) -> str:
    return SERVED + "".join(
        f'[[reservation]]\naddress = "{address}"\nnode = "{client_id(duid).hex()}"\ninterface = "*"\n'
        for address in ("2001:db8:1:1::beef", "192.0.2.9")
    )


@pytest.fixture
async def client(books: Books, server: Dhcp6Server) -> Client:
    """A DHCPv4 client of the same machine."""
    wire = Wire4()
    server._tasks.create_task(
        Dhcp4Server(books, wire, client_id=client_id, newcomers=Newcomers(at_once=4), random=Random(1).randbytes).run()
    )
    await pass_time(1)
    return Client(wire, hardware=MAC)


@pytest.mark.parametrize("duid", [DUID_LL, DUID_LLT, DUID_UUID])
async def test_by_its_hardware_address_a_client_has_it_from_its_first_message_on(
    site: Site, books: Books, wire: Wire, server: Dhcp6Server, duid: bytes
) -> None:
    """Whatever its DUID is: of one that has no hardware address in it, the link is asked."""
    wire.neighbours[FE80] = MAC if duid == DUID_UUID else b""
    await site.apply(reserving(DUID_LL))
    await pass_time(1)
    before = books.position
    (offered,) = na_of(await ask(wire, Kind.SOLICIT, client_id=duid)).addresses
    assert offered.address == SIX
    assert books.position == before  # it has only looked
    assert await lease(wire, client_id=duid) == SIX
    assert await lease(wire, client_id=duid, iaid=8) != SIX  # one association of it alone
    (again,) = na_of(await ask(wire, Kind.RENEW, SIX, client_id=duid)).addresses
    assert (again.address, again.preferred) == (SIX, 100)
    assert wire.asked == [FE80]  # once for all of its messages


async def test_who_cannot_be_asked_for_while_many_are_is_given_nothing_else(
    site: Site, wire: Wire, server: Dhcp6Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def answers_late(address: bytes) -> bytes:
        await pass_time(0.9)
        return wire.neighbours.get(address, b"")

    monkeypatch.setattr(wire, "hardware", answers_late)
    wire.neighbours[FE80] = MAC
    await site.apply(reserving(DUID_LL))
    await pass_time(1)
    for number in range(ASKED_AT_ONCE):
        options = Options(client_id=b"\x00\x04%d" % number, na=(IaNa(iaid=7),))
        wire.say(encode(Message(int(Kind.SOLICIT), b"abc", options)), (f"fe80::1:{number:x}%eth0", 546, 0, 2))
    request = Options(client_id=DUID_UUID, server_id=SERVER, na=(IaNa(iaid=7),))
    wire.say(encode(Message(int(Kind.REQUEST), b"abc", request)))
    await pass_time(2)
    assert len(wire.sent) == ASKED_AT_ONCE
    assert server.dropped == {"busy": 1}
    wire.sent.clear()
    assert await lease(wire, client_id=DUID_UUID) == SIX


async def test_by_its_duid(site: Site, wire: Wire, server: Dhcp6Server) -> None:
    await site.apply(reserving(DUID_UUID))
    await pass_time(1)
    assert await lease(wire, client_id=INSTALLER) != SIX
    assert await lease(wire, client_id=DUID_UUID) == SIX


@pytest.mark.usefixtures("server")
async def test_by_dhcpv4_whatever_client_id_it_has(site: Site, books: Books, client: Client) -> None:
    await site.apply(reserving(DUID_LL))
    await pass_time(1)
    offered = await client.ask(Kind4.DISCOVER, client_id=b"\xff" + bytes(4) + DUID_UUID)
    assert offered is not None
    assert offered.yours == FOUR
    assert await client.has(client_id=b"\xff" + bytes(4) + DUID_UUID) == FOUR
    assert await client.has() == FOUR  # its firmware, by its hardware address alone
    assert await Client(client.wire, hardware=MAC[:5] + b"\x02").has() != FOUR
    assert {client for client, _ in books.ledger.held.values()} == {client_id(DUID_LL)}


async def test_the_installer_and_then_the_system_have_it(
    site: Site, books: Books, wire: Wire, server: Dhcp6Server
) -> None:
    wire.neighbours[FE80] = MAC
    await site.apply(reserving(DUID_LL))
    await pass_time(1)
    assert await lease(wire, client_id=INSTALLER, iaid=1) == SIX
    assert await lease(wire, client_id=DUID_UUID, iaid=2) == SIX
    assert books.ledger.leases[SIX].client == client_id(DUID_UUID)


async def test_who_has_another_address_is_moved_when_the_plan_reserves_one(
    site: Site, wire: Wire, server: Dhcp6Server
) -> None:
    wire.neighbours[FE80] = MAC
    had = await lease(wire, client_id=DUID_UUID)
    await site.apply(reserving(DUID_LL))
    await pass_time(1)
    told = {
        each.address: each.preferred for each in na_of(await ask(wire, Kind.RENEW, had, client_id=DUID_UUID)).addresses
    }
    assert told == {SIX: 100, had: 0}


async def test_nobody_takes_it_from_a_node_with_an_agent(
    site: Site, books: Books, wire: Wire, server: Dhcp6Server
) -> None:
    await site.apply(reserving(DUID_LL))
    await pass_time(1)
    node = machine(books, "web", hardware=MAC)
    await node.talk()
    assert {SIX, FOUR} <= node.addresses
    impostor = b"\x00\x01\x00\x01\x00\x00\x00\x01" + MAC
    assert await lease(wire, client_id=impostor) != SIX
    assert books.ledger.leases[SIX].client == node.client


async def test_a_reservation_for_an_interface_by_name_is_a_node_agents(
    site: Site, books: Books, wire: Wire, server: Dhcp6Server
) -> None:
    await site.apply(reserving(DUID_UUID).replace('interface = "*"', 'interface = "eth0"'))
    await pass_time(1)
    assert await lease(wire, client_id=DUID_UUID, iaid=7) != SIX
    assert await lease(wire, client_id=DUID_UUID, iaid=iaid_of("eth0")) == SIX


async def test_another_agent_has_it_so_too(site: Site, books: Books, wire: Wire, server: Dhcp6Server) -> None:
    wire.neighbours[FE80] = MAC
    await site.apply(reserving(DUID_LL))
    await pass_time(1)
    assert await lease(wire, client_id=DUID_UUID) == SIX
    other = Wire()
    async with site.agent("a2") as second, serving(second, other):
        (again,) = na_of(await ask(other, Kind.REBIND, SIX, client_id=DUID_UUID)).addresses
        assert (again.address, again.preferred) == (SIX, 100)
        assert second.ledger.held == books.ledger.held


async def test_the_log_knows_the_hardware_address_that_the_link_has(
    books: Books, wire: Wire, server: Dhcp6Server
) -> None:
    wire.neighbours[FE80] = MAC
    await lease(wire, client_id=DUID_UUID)
    node = await books.opened(client_id(DUID_UUID))
    assert node is not None
    assert node.identity is not None
    assert node.identity.hardware == (Personal(MAC),)
