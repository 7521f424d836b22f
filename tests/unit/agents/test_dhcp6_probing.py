"""What a DHCPv6 server asks of the link before it gives an address of a sequential pool."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from dnms.agents.subnet.books import Books
from dnms.agents.subnet.dhcp6_probing import ASKED_AT_ONCE
from dnms.agents.subnet.dhcp6_server import Dhcp6Server
from dnms.events.address import AddressAllocated, AddressDeclined
from dnms.events.ip import parse_address
from dnms.linux.multicast import Peer
from dnms.wire.dhcp6.associations import IaNa
from dnms.wire.dhcp6.codes import Kind, Status
from dnms.wire.dhcp6.messages import Message, encode
from dnms.wire.dhcp6.options import Options
from tests.unit.agents.conftest import FrailLog, Site
from tests.unit.agents.dhcp6_wire import PEER, SERVED, SERVER, Wire, books, serving, wire
from tests.virtual_time import pass_time

__all__ = ["books", "wire"]

SEQUENTIAL = SERVED.replace(
    'range = "2001:db8:1:1::/64"', 'range = "2001:db8:1:1::10-2001:db8:1:1::2f"\nstrategy = "sequential"'
)
FIRST, SECOND, THIRD = (parse_address(f"2001:db8:1:1::{last}") for last in ("10", "11", "12"))
MINE, OTHERS = b"\x02\x00\x00\x00\x00\x01", b"\x02\x00\x00\x00\x00\x02"
DUID = b"\x00\x03\x00\x01" + MINE


@pytest.fixture
async def server(books: Books, site: Site, wire: Wire) -> AsyncIterator[Dhcp6Server]:
    async with serving(books, wire) as server:
        await site.apply(SEQUENTIAL)
        await pass_time(1)
        yield server


def request(wire: Wire, duid: bytes = DUID, peer: Peer = PEER, kind: Kind = Kind.REQUEST) -> None:
    server = b"" if kind is Kind.SOLICIT else SERVER
    said = Options(client_id=duid, server_id=server, na=(IaNa(iaid=7),), rapid_commit=kind is Kind.SOLICIT)
    wire.say(encode(Message(int(kind), duid[-3:], said)), peer)


async def given(wire: Wire) -> list[bytes]:
    await pass_time(30)
    return [each.address for message, _ in wire.sent for na in message.options.na for each in na.addresses]


@pytest.mark.parametrize("kind", [Kind.REQUEST, Kind.SOLICIT])
async def test_what_another_uses_is_kept_from_everybody(
    log: FrailLog, wire: Wire, server: Dhcp6Server, kind: Kind
) -> None:
    wire.neighbours = {FIRST: OTHERS}
    wire.ours = [THIRD]
    request(wire, kind=kind)
    (has,) = await given(wire)
    events = log.events()
    declined = [each.address for each in events if isinstance(each, AddressDeclined)]
    assert declined == [FIRST, THIRD]
    assert [each.address for each in events if isinstance(each, AddressAllocated)] == [*declined, has]
    assert has in wire.asked


async def test_a_client_may_use_it_already(wire: Wire, server: Dhcp6Server) -> None:
    wire.neighbours = {FIRST: MINE}
    request(wire)
    assert await given(wire) == [FIRST]
    assert FIRST in wire.asked


async def test_who_has_it_is_not_asked_for_again(wire: Wire, server: Dhcp6Server) -> None:
    request(wire)
    assert await given(wire) == [FIRST]
    wire.asked.clear()
    wire.sent.clear()
    request(wire)
    assert await given(wire) == [FIRST]
    assert FIRST not in wire.asked


async def test_those_who_ask_at_once_get_what_was_looked_at_for_each(
    log: FrailLog, wire: Wire, server: Dhcp6Server
) -> None:
    peers = [(f"fe80::{number}%eth0", 546, 0, 2) for number in range(1, 4)]
    for number, peer in enumerate(peers):
        request(wire, DUID[:-1] + bytes([number]), peer)
    assert sorted(await given(wire)) == [FIRST, SECOND, THIRD]
    assert {FIRST, SECOND, THIRD} <= set(wire.asked)
    assert len([each for each in log.events() if isinstance(each, AddressAllocated)]) == 3


async def test_a_burst_of_clients_gets_all_of_a_pool_and_who_renews_waits_for_none_of_them(
    site: Site, wire: Wire, server: Dhcp6Server
) -> None:
    burst = 18 * ASKED_AT_ONCE
    await site.apply(SEQUENTIAL.replace("::2f", f"::{0x10 + burst:x}"))
    await pass_time(1)
    request(wire)
    assert await given(wire) == [FIRST]
    site.clock.micros += 700 * 1_000_000  # its lease is to be extended in the log
    wire.sent.clear()
    wire.asked.clear()
    for number in range(burst):
        request(wire, DUID[:-3] + b"\7" + number.to_bytes(2), (f"fe80::1:{number:x}%eth0", 546, 0, 2))
    request(wire, kind=Kind.RENEW)
    await pass_time(0.5)
    assert [each.address for message, _ in wire.sent for each in message.options.na[0].addresses] == [FIRST]
    assert len(set(await given(wire))) == len(wire.sent) == 1 + burst
    assert len([each for each in wire.asked if each.startswith(FIRST[:14])]) == burst


async def test_an_operator_sees_that_all_are_used(wire: Wire, server: Dhcp6Server) -> None:
    wire.neighbours = {parse_address(f"2001:db8:1:1::{last:x}"): OTHERS for last in range(0x10, 0x30)}
    request(wire)
    assert await given(wire) == []
    ((message, _),) = wire.sent
    (na,) = message.options.na
    assert na.status is not None
    assert na.status.code == Status.NO_ADDRS_AVAIL
