"""Addresses that machines make themselves and register (RFC 9686): in the log with their source, and nobody else's."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from dnms.agents.subnet.books import Books
from dnms.agents.subnet.dhcp6_registrations import LOOK, MAX_ADDRESSES
from dnms.agents.subnet.dhcp6_server import Dhcp6Server
from dnms.agents.subnet.newcomers import LEASES_A_NODE, NEW_A_SECOND
from dnms.events.address import AddressBlocked
from dnms.events.configuration import InterfaceAddress
from dnms.events.ip import format_address, parse_address
from dnms.events.node import NodeIdentified
from dnms.events.requests import AllocateAddress
from dnms.events.seen import ConfigurationChanged
from dnms.linux.errors import KernelError
from dnms.linux.multicast import Peer
from dnms.wire.dhcp6.associations import IaAddress, IaNa
from dnms.wire.dhcp6.codes import Kind, Option
from dnms.wire.dhcp6.messages import Message, Relay, encode, encode_forward
from dnms.wire.dhcp6.options import Options
from tests.unit.agents.conftest import Clock, FrailLog, Site, client_id
from tests.unit.agents.dhcp6_wire import SERVED, Wire, alarms, books, server, serving, wire
from tests.unit.agents.test_dhcp6_addresses import DUID, OTHER, ask, lease
from tests.unit.agents.test_dhcp6_server import ask as ask_prefix
from tests.virtual_time import pass_time

__all__ = ["alarms", "books", "server", "wire"]

MINE, MORE = parse_address("2001:db8:1:1:1234:5678:9abc:def0"), parse_address("2001:db8:1:1::7")
AT_ONCE = 4  # new nodes, of the server of these tests
MAC = bytes.fromhex("02005e100001")


def option_of(address: bytes, preferred: int = 1_800, valid: int = 3_600) -> bytes:
    whole = encode(
        Message(
            1,
            b"abc",
            Options(na=(IaNa(iaid=1, addresses=(IaAddress(address=address, preferred=preferred, valid=valid),)),)),
        )
    )
    return whole[whole.index(bytes((0, 5, 0, 24))) + 4 :]


async def register(
    wire: Wire, address: bytes = MINE, *, source: bytes | None = None, relays: tuple[Relay, ...] = (), **said: Any
) -> Message | None:
    """What is answered; None: nothing is."""
    times = {key: said.pop(key) for key in ("preferred", "valid") if key in said}
    options = Options(**{"client_id": DUID, "registered": (option_of(address, **times),), **said})
    data = encode(Message(int(Kind.ADDR_REG_INFORM), b"abc", options))
    for relay in relays:
        data = encode_forward(data, relay)
    peer: Peer = (format_address(source or address), 546, 0, 0)
    wire.sent.clear()
    wire.relayed.clear()
    wire.say(data, peer)
    await pass_time(1)
    if relays:
        return wire.relayed[0][0].message if wire.relayed else None
    if not wire.sent:
        return None
    ((answer, to),) = wire.sent
    assert to == peer
    return answer


def changes(log: FrailLog) -> list[ConfigurationChanged]:
    return [event for event in log.events() if isinstance(event, ConfigurationChanged)]


async def test_it_is_in_the_log_and_that_is_said(log: FrailLog, wire: Wire, server: Dhcp6Server) -> None:
    wire.neighbours[MINE] = MAC
    answer = await register(wire, fqdn=b"\x00\x02pc\x04home\x00")
    assert answer is not None
    assert (answer.kind, answer.transaction) == (Kind.ADDR_REG_REPLY, b"abc")
    assert answer.options == Options(registered=(option_of(MINE),))
    (change,) = changes(log)
    assert change.client == client_id(DUID)
    assert change.change.addresses == (
        InterfaceAddress(
            interface=0, address=MINE, prefix_length=64, origin="registered", preferred=1_800, valid=3_600
        ),
    )
    (node,) = [log.keys.open(event) for event in log.events() if isinstance(event, NodeIdentified)]
    assert isinstance(node, NodeIdentified)
    assert (node.name.value, [each.value for each in node.hardware]) == ("pc.home", [MAC])
    assert server.answered == {"addr_reg_inform": 1}


async def test_nobody_else_is_given_it(books: Books, log: FrailLog, wire: Wire, server: Dhcp6Server) -> None:
    theirs = AllocateAddress(client=client_id(OTHER), iaid=7, family=6)
    (would,) = books.ledger.draft().decide(theirs, at=books.now(), entropy=bytes(32))
    address: bytes = would.address  # type: ignore[attr-defined]  # it is an allocation
    assert await register(wire, address) is not None
    (blocked,) = [event for event in log.events() if isinstance(event, AddressBlocked)]
    assert (blocked.address, blocked.client) == (address, client_id(DUID))
    assert await lease(wire, client_id=OTHER) != address


async def test_it_is_written_again_when_half_of_its_time_is_over_and_when_it_ends(
    log: FrailLog, clock: Clock, wire: Wire, server: Dhcp6Server
) -> None:
    for seconds, written in ((0, 1), (600, 1), (1_300, 2), (60, 2)):
        clock.micros += seconds * 1_000_000
        assert await register(wire) is not None
        assert len(changes(log)) == written
    assert await register(wire, preferred=0, valid=0) is not None
    (gone,) = changes(log)[-1].change.addresses_gone
    assert (gone.address, gone.interface, gone.prefix_length) == (MINE, 0, 64)
    assert await register(wire) is not None
    clock.micros += 3_700 * 1_000_000
    await pass_time(40)
    assert [each.address for each in changes(log)[-1].change.addresses_gone] == [MINE]
    await pass_time(400)
    assert len(changes(log)) == 5


async def test_one_that_is_given_up_while_the_end_of_another_is_written(
    books: Books, site: Site, wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    log, store, acknowledges = site.log, site.log.store, asyncio.Event()

    async def store_slowly(subject: str, data: bytes, *, expected: int) -> int:
        await acknowledges.wait()
        return await store(subject, data, expected=expected)

    looks = asyncio.get_running_loop().time() + LOOK
    async with serving(books, wire):
        await site.apply(SERVED)
        await pass_time(1)
        assert await register(wire) is not None
        assert await register(wire, MORE, client_id=OTHER, valid=7_200) is not None
        site.clock.micros += 3_700 * 1_000_000
        await pass_time(looks - 0.1 - asyncio.get_running_loop().time())
        monkeypatch.setattr(log, "store", store_slowly)
        task = asyncio.create_task(register(wire, MORE, client_id=OTHER, preferred=0, valid=0))
        await pass_time(0.3)
        assert len(changes(log)) == 2
        acknowledges.set()
        assert await task is not None
        gone = [each.address for change in changes(log)[2:] for each in change.change.addresses_gone]
        assert gone == [MORE, MINE]


async def test_it_serves_on_where_the_kernel_refuses_an_answer(
    log: FrailLog, wire: Wire, server: Dhcp6Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(data: bytes, peer: Peer) -> bool:
        raise KernelError("invalid", "the table of neighbours is full")

    with monkeypatch.context() as patched:
        patched.setattr(wire, "send", refuse)
        assert await register(wire) is None
    assert (server.dropped, server.answered) == ({"invalid": 1}, {})
    assert await register(wire) is not None
    assert len(changes(log)) == 1


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ({"client_id": b""}, "client-id"),
        ({"server_id": b"\x00\x04server"}, "server-id"),
        ({"registered": ()}, "malformed"),
        ({"registered": (option_of(MINE), option_of(MORE))}, "malformed"),
        ({"registered": (option_of(MINE)[:23],)}, "malformed"),
        ({"requested": (23,)}, "malformed"),
        ({"source": MORE}, "direction"),
        ({"source": parse_address("fe80::7")}, "direction"),
    ],
)
async def test_what_is_discarded(
    log: FrailLog, wire: Wire, server: Dhcp6Server, said: dict[str, Any], why: str
) -> None:
    before = len(log.records)
    assert await register(wire, **said) is None
    assert server.dropped == {why: 1}
    assert len(log.records) == before


@pytest.mark.parametrize("address", ["2001:db8:ffff::1", "fe80::7", "::1"])
async def test_an_address_of_another_link_is_not_registered(
    log: FrailLog, wire: Wire, server: Dhcp6Server, address: str
) -> None:
    before = len(log.records)
    assert await register(wire, parse_address(address)) is None
    assert server.dropped == {"not-on-link": 1}
    assert len(log.records) == before


async def test_what_dhcpv6_has_given_is_not_registered(log: FrailLog, wire: Wire, server: Dhcp6Server) -> None:
    mine = await lease(wire)
    assert await register(wire, mine) is None
    assert changes(log) == []


async def test_what_another_was_given_stays_its_own(
    books: Books, log: FrailLog, wire: Wire, server: Dhcp6Server
) -> None:
    theirs = await lease(wire, client_id=OTHER)
    assert await register(wire, theirs) is not None  # a fact, which who looks for a duplicate wants to see
    assert len(changes(log)) == 1
    assert books.ledger.leases[theirs].client == client_id(OTHER)
    assert not [event for event in log.events() if isinstance(event, AddressBlocked)]


async def test_through_a_relay(log: FrailLog, wire: Wire, server: Dhcp6Server) -> None:
    link = parse_address("2001:db8:1:1::9")
    relay = Relay(link=link, peer=MINE, interface_id=b"eth7", link_layer=b"\x00\x01" + MAC)
    answer = await register(wire, relays=(relay,), source=parse_address("2001:db8:99::9"))
    assert answer is not None
    assert answer.kind == Kind.ADDR_REG_REPLY
    assert len(changes(log)) == 1
    other = msgspec.structs.replace(relay, peer=MORE)
    assert await register(wire, relays=(other,), source=parse_address("2001:db8:99::9")) is None


async def test_one_machine_cannot_fill_the_log(log: FrailLog, wire: Wire, server: Dhcp6Server) -> None:
    """By one DUID no more than a machine has; by many, from as many addresses, no more than new leases it may have."""
    loop = asyncio.get_running_loop()
    began, before = loop.time(), len(log.records)
    for number in range(MAX_ADDRESSES + 5):
        address = MORE[:14] + number.to_bytes(2)
        wire.neighbours[address] = MAC
        await register(wire, address)
    assert len(changes(log)) <= MAX_ADDRESSES
    for number in range(100):
        address = MORE[:13] + b"\1" + number.to_bytes(2)
        wire.neighbours[address] = MAC
        await register(wire, address, client_id=b"\x00\x04%d" % number)
    at_once, later = LEASES_A_NODE * AT_ONCE, LEASES_A_NODE * NEW_A_SECOND * (loop.time() - began)
    assert at_once <= len(changes(log)) <= at_once + later
    assert len(log.records) - before <= 5 * (at_once + later)


async def test_while_the_log_is_away_it_is_not_said_to_be_known(
    books: Books, log: FrailLog, wire: Wire, server: Dhcp6Server
) -> None:
    log.cut = True
    books.outage.begin("cut off by the test")
    assert await register(wire) is None
    log.cut = False
    await pass_time(10)
    assert await register(wire) is not None


@pytest.mark.parametrize("kind", [Kind.SOLICIT, Kind.REQUEST, Kind.INFORMATION_REQUEST])
async def test_who_asks_is_told_that_it_may(wire: Wire, server: Dhcp6Server, kind: Kind) -> None:
    said: dict[str, Any] = {"na": ()} if kind is Kind.INFORMATION_REQUEST else {}
    for requested, registers in (((23, int(Option.ADDR_REG_ENABLE)), True), ((23,), False)):
        answer = await ask(wire, kind, requested=requested, **said)
        assert answer is not None
        assert answer.options.registers is registers


async def test_an_address_of_what_a_client_was_delegated(site: Site, wire: Wire, server: Dhcp6Server) -> None:
    await site.apply(
        SERVED + '[[delegation]]\nname = "b"\nsubnet = "office"\nprefix = "2001:db8:f000::/48"\nlength = 56\n'
    )
    await pass_time(1)
    answer = await ask_prefix(wire, Kind.REQUEST)
    assert answer is not None
    block = answer.options.pd[0].prefixes[0].prefix
    inside = (block.first + 5).to_bytes(16)
    assert await register(wire, inside) is not None
    assert await register(wire, inside, client_id=OTHER) is None
