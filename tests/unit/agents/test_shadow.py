"""What a shadow says of another server's answers, on a log in memory; the other server is the test."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dnms.agents.shadow import compare4, compare6
from dnms.agents.shadow.exchanges import SILENCE, Exchanges, Found
from dnms.agents.shadow.link import ADDRESS, DUID, ShadowLink, as_for_us4, as_for_us6, without_relays
from dnms.agents.subnet.books import Books
from dnms.agents.subnet.dhcp4_server import Dhcp4Server
from dnms.agents.subnet.dhcp6_server import Dhcp6Server
from dnms.agents.subnet.newcomers import Newcomers
from dnms.domain.identity import duid_of_hardware, iaid_of_hardware
from dnms.events.ip import parse_address, parse_prefix
from dnms.events.requests import ImportAddress, ImportPrefix
from dnms.events.seen import HardwareContested
from dnms.linux.dhcp_heard import Datagram, datagram
from dnms.wire.dhcp4 import messages as messages4
from dnms.wire.dhcp4.codes import Kind as Kind4
from dnms.wire.dhcp4.options import Options as Options4
from dnms.wire.dhcp6 import messages as messages6
from dnms.wire.dhcp6.associations import IaAddress, IaNa, IaPd, IaPrefix
from dnms.wire.dhcp6.codes import Kind as Kind6
from dnms.wire.dhcp6.messages import Relay
from dnms.wire.dhcp6.options import Options as Options6
from dnms.wire.errors import PeerError
from tests.unit.agents.conftest import Site, client_id
from tests.unit.agents.dhcp4_line import HARDWARE
from tests.unit.agents.dhcp6_wire import books
from tests.virtual_time import pass_time

__all__ = ["books"]

PLAN = """
[site]
name = "s"
[[subnet]]
name = "office"
prefixes = ["2001:db8:1:1::/64", "192.0.2.0/24"]
gateways = ["192.0.2.1"]
dns = ["2001:db8::53", "192.0.2.53"]
[[pool]]
name = "office-v6"
subnet = "office"
range = "2001:db8:1:1::/64"
preferred = 1000
valid = 2000
[[pool]]
name = "office-v4"
subnet = "office"
range = "192.0.2.128/25"
preferred = 1600
valid = 2000
[[delegation]]
name = "blocks"
subnet = "office"
prefix = "2001:db8:8::/48"
length = 56
preferred = 1000
valid = 2000
"""
SERVER, NEAR, CLIENT = map(parse_address, ("192.0.2.1", "fe80::1", "fe80::7"))
FOUR, OTHER_FOUR, STATIC = map(parse_address, ("192.0.2.130", "192.0.2.131", "192.0.2.9"))
SIX, OTHER_SIX = map(parse_address, ("2001:db8:1:1::7", "2001:db8:1:1::8"))
BLOCK = parse_prefix("2001:db8:8:300::/56")
WHO, THEIRS = b"\x00\x04a client's DUID", b"\x00\x04Kea"


class Line:
    """The link, as a shadow hears it."""

    def __init__(self, site: Site, exchanges: Exchanges, found: list[Found]) -> None:
        self.site = site
        self.exchanges = exchanges
        self.found = found
        self._transaction = 0

    def told(self) -> list[tuple[str, str, str, str]]:
        """What was told since this was asked."""
        told = [(each.what, each.of, each.there, each.here) for each in self.found]
        self.found.clear()
        return told

    async def four(self, kind: Kind4, *, client: bytes = messages4.NOBODY, **said: Any) -> None:
        """A DHCPv4 client says this."""
        self._transaction += 1
        if kind is Kind4.REQUEST and client == messages4.NOBODY:
            said = {"server_id": SERVER, **said}
        message = messages4.Message(
            op=1,
            kind=int(kind),
            transaction=self._transaction.to_bytes(4),
            hardware=HARDWARE,
            client=client,
            options=Options4(requested=(1, 3, 6, 28, 66), **said),
        )
        await self.exchanges.take(Datagram(client, SERVER, 67, HARDWARE, messages4.encode(message)))

    async def answer4(self, kind: Kind4, address: bytes, *, extra: bytes = b"", **said: Any) -> None:
        """The other server answers that."""
        options: dict[str, Any] = {
            "server_id": SERVER,
            "lease_time": 2000,
            "t1": 800,
            "t2": 1280,
            "mask": 120,
            "routers": (SERVER,),
            "dns": (parse_address("192.0.2.53"),),
            "host_name": "repeated",
        }
        message = messages4.Message(
            op=2,
            kind=int(kind),
            transaction=self._transaction.to_bytes(4),
            hardware=HARDWARE,
            yours=address,
            options=Options4(**{**options, **said} if kind is not Kind4.NAK else {"server_id": SERVER}),
        )
        data = messages4.encode(message).rstrip(b"\0").removesuffix(b"\xff") + extra + b"\xff"
        await self.exchanges.take(Datagram(SERVER, address, 68, b"", data))

    async def six(self, kind: Kind6, *, relay: Relay | None = None, **said: Any) -> None:
        """A DHCPv6 client says this."""
        self._transaction += 1
        named: dict[str, Any] = {"server_id": THEIRS} if kind in (Kind6.REQUEST, Kind6.RENEW, Kind6.RELEASE) else {}
        options = Options6(client_id=WHO, requested=(23, 59), **named, **said)
        data = messages6.encode(messages6.Message(int(kind), self._transaction.to_bytes(3), options))
        if relay is not None:
            data = messages6.encode_forward(data, relay)
        await self.exchanges.take(Datagram(CLIENT, NEAR, 547, HARDWARE, data))

    async def answer6(self, kind: Kind6, *, relay: Relay | None = None, **said: Any) -> None:
        """The other server answers that."""
        given: dict[str, Any] = {"dns": (parse_address("2001:db8::53"),), **said}
        message = messages6.Message(
            int(kind), self._transaction.to_bytes(3), Options6(client_id=WHO, server_id=THEIRS, **given)
        )
        data = messages6.encode_reply(message, (relay,) if relay is not None else ())
        await self.exchanges.take(Datagram(NEAR, CLIENT, 546, b"", data))


@pytest.fixture
async def line(site: Site, books: Books) -> AsyncIterator[Line]:
    link, found = ShadowLink(), list[Found]()

    async def alarm(_: HardwareContested) -> None:
        raise AssertionError("nothing here is contested")

    dhcp4 = Dhcp4Server(books, link, client_id=client_id, newcomers=Newcomers(), random=Random(1).randbytes)
    dhcp6 = Dhcp6Server(books, link, duid=DUID, interface="e", client_id=client_id, newcomers=Newcomers(), alarm=alarm)
    tasks = [asyncio.create_task(each.run()) for each in (dhcp4, dhcp6)]
    await site.apply(PLAN)
    await pass_time(1)
    exchanges = Exchanges(books, link, (dhcp4, dhcp6), interface="e", client_id=client_id, report=found.append)
    yield Line(site, exchanges, found)
    for task in tasks:
        assert not task.done()
        task.cancel()
    await asyncio.wait(tasks)


async def imported4(books: Books, address: bytes) -> None:
    until = books.now() + 1500 * 1_000_000
    client, iaid = client_id(duid_of_hardware(HARDWARE)), iaid_of_hardware(HARDWARE)
    await books.decide(ImportAddress(client=client, iaid=iaid, address=address, valid_until=until, origin="kea"))


async def imported6(books: Books) -> None:
    until = books.now() + 1500 * 1_000_000
    await books.decide(ImportAddress(client=client_id(WHO), iaid=7, address=SIX, valid_until=until, origin="kea"))
    await books.decide(ImportPrefix(client=client_id(WHO), iaid=8, prefix=BLOCK, valid_until=until, origin="kea"))


async def test_it_agrees_of_what_was_imported(line: Line, books: Books) -> None:
    await imported4(books, FOUR)
    for _ in range(2):
        await line.four(Kind4.REQUEST, client=FOUR)
        await line.answer4(Kind4.ACK, FOUR)
    await line.four(Kind4.REQUEST, requested_address=FOUR)
    await line.answer4(Kind4.ACK, FOUR)
    assert line.told() == []
    assert (line.exchanges.compared, line.exchanges.equal) == (3, 3)
    assert line.exchanges.clients == {HARDWARE.hex(":")}


async def test_it_names_lifetimes_timers_and_options(line: Line, books: Books) -> None:
    await imported4(books, FOUR)
    await line.four(Kind4.REQUEST, client=FOUR)
    await line.answer4(
        Kind4.ACK,
        FOUR,
        lease_time=3000,
        t1=None,
        dns=(parse_address("192.0.2.54"),),
        extra=b"\x42\x01x\x1c\x04\0\0\0\0",
    )
    assert line.told() == [
        ("lifetime", "lease", "3000 s", "1999 s"),
        ("timer", "T1", "1500 s", "800 s"),
        ("option", "6 (dns-servers)", "192.0.2.54", "192.0.2.53"),
        ("option", "66 (boot-server)", "78", "nothing"),
    ]


async def test_who_is_new_may_have_another_address_and_then_has_the_one_it_was_given(line: Line, books: Books) -> None:
    await line.four(Kind4.DISCOVER)
    await line.answer4(Kind4.OFFER, FOUR)
    ((what, of, there, _),) = line.told()
    assert (what, of, there) == ("new-client", "address", "192.0.2.130")
    await line.four(Kind4.REQUEST, requested_address=FOUR)
    await line.answer4(Kind4.ACK, FOUR)
    await line.four(Kind4.REQUEST, client=FOUR)
    await line.answer4(Kind4.ACK, FOUR)
    assert line.told() == []
    assert [each.address for each in books.ledger.leases.values()] == [FOUR]


async def test_another_address_than_was_imported_is_told_once(line: Line, books: Books) -> None:
    await imported4(books, FOUR)
    await line.four(Kind4.DISCOVER)
    await line.answer4(Kind4.OFFER, OTHER_FOUR)
    assert line.told() == [("address", "address", "192.0.2.131", "192.0.2.130")]
    await line.four(Kind4.REQUEST, requested_address=OTHER_FOUR)
    await line.answer4(Kind4.ACK, OTHER_FOUR)
    assert line.told() == []


async def test_a_refusal(line: Line, books: Books) -> None:
    await imported4(books, FOUR)
    await line.four(Kind4.REQUEST, client=FOUR)
    await line.answer4(Kind4.NAK, messages4.NOBODY)
    assert line.told() == [("answer", "message", "nak", "ack 192.0.2.130")]


async def test_silence_of_either(line: Line, books: Books) -> None:
    await line.four(Kind4.REQUEST, client=STATIC)  # which no pool has
    await line.answer4(Kind4.ACK, STATIC)
    assert line.told() == [("answer", "message", "ack 192.0.2.9", "silence")]
    await line.four(Kind4.REQUEST, client=STATIC)
    await pass_time(SILENCE)
    line.exchanges.tick(asyncio.get_running_loop().time())
    assert line.told() == []  # both are
    await imported4(books, FOUR)
    await line.four(Kind4.REQUEST, client=FOUR)
    line.exchanges.tick(asyncio.get_running_loop().time())
    assert line.told() == []  # it has time yet
    await pass_time(SILENCE)
    line.exchanges.tick(asyncio.get_running_loop().time())
    assert line.told() == [("answer", "message", "silence", "ack 192.0.2.130")]
    await line.answer4(Kind4.ACK, FOUR)
    assert line.exchanges.ignored["unasked"] == 1


async def test_what_a_client_gives_back_is_given_back(line: Line, books: Books) -> None:
    await imported4(books, FOUR)
    await line.four(Kind4.RELEASE, client=FOUR, server_id=SERVER)
    assert not books.ledger.leases


def has(address: bytes = SIX, preferred: int = 1000, valid: int = 2000) -> dict[str, Any]:
    """What a server gives by DHCPv6."""
    t1, t2 = 500, 800
    na = IaNa(iaid=7, t1=t1, t2=t2, addresses=(IaAddress(address=address, preferred=preferred, valid=valid),))
    pd = IaPd(iaid=8, t1=t1, t2=t2, prefixes=(IaPrefix(prefix=BLOCK, preferred=1000, valid=2000),))
    return {"na": (na,), "pd": (pd,)}


WANTED: dict[str, Any] = {"na": (IaNa(iaid=7),), "pd": (IaPd(iaid=8),)}


@pytest.mark.parametrize("relay", [None, Relay(link=parse_address("2001:db8:1:1::1"), peer=CLIENT)])
async def test_by_dhcpv6_it_agrees_of_what_was_imported(line: Line, books: Books, relay: Relay | None) -> None:
    await imported6(books)
    for kind in (Kind6.RENEW, Kind6.REBIND, Kind6.REQUEST):
        await line.six(kind, relay=relay, **has())
        await line.answer6(Kind6.REPLY, relay=relay, **has())
    assert line.told() == []
    assert line.exchanges.equal == 3
    await line.six(Kind6.RELEASE, relay=relay, **has())
    await line.answer6(Kind6.REPLY, relay=relay, dns=())
    assert line.told() == []
    assert not books.ledger.leases
    assert not books.ledger.delegations.all


async def test_by_dhcpv6_it_names_what_differs(line: Line, books: Books) -> None:
    await imported6(books)
    await line.six(Kind6.RENEW, **has())
    await line.answer6(
        Kind6.REPLY, **has(valid=4000), dns=(parse_address("2001:db8::54"),), boot_file="x", search=("nobody", "asks")
    )
    assert line.told() == [
        ("lifetime", "2001:db8:1:1::7 valid", "4000 s", "2000 s"),
        ("option", "23 (dns-servers)", "2001:db8::54", "2001:db8::53"),
        ("option", "59 (boot-file-url)", "78", "nothing"),
    ]
    await line.six(Kind6.SOLICIT, **WANTED)
    await line.answer6(Kind6.ADVERTISE, **has(OTHER_SIX))
    assert line.told() == [("address", "IA_NA 0x7", "2001:db8:1:1::8", "2001:db8:1:1::7")]
    await line.six(Kind6.REQUEST, **has(OTHER_SIX))
    await line.answer6(Kind6.REPLY, **has(OTHER_SIX))
    assert line.told() == []


async def test_by_dhcpv6_who_is_new_may_have_another_address(line: Line, books: Books) -> None:
    await line.six(Kind6.SOLICIT, **WANTED)
    await line.answer6(Kind6.ADVERTISE, **has())
    assert {each[0] for each in line.told()} == {"new-client"}
    await line.six(Kind6.REQUEST, **has())
    await line.answer6(Kind6.REPLY, **has())
    assert line.told() == []
    assert set(books.ledger.delegations.all) == {BLOCK}


async def test_what_is_no_message_is_counted(line: Line) -> None:
    await line.exchanges.take(Datagram(CLIENT, SERVER, 547, HARDWARE, b"\x01"))
    await line.exchanges.take(Datagram(SERVER, SERVER, 67, HARDWARE, b"\x01"))
    assert line.exchanges.ignored["malformed"] == 2


@given(st.binary(max_size=400))
def test_hostile_bytes(data: bytes) -> None:
    datagram(data, b"")
    as_for_us4(data)
    for read in (as_for_us6, without_relays):
        with suppress(PeerError):
            read(data)
    with suppress(PeerError):
        compare4.compare(data, None, is_new=False)
    with suppress(PeerError):
        compare6.compare(data, None, is_new=False, gives=True, requested=())


def test_a_message_for_another_server_is_read_as_one_for_this() -> None:
    options = Options4(server_id=SERVER, requested_address=FOUR)
    asked = messages4.Message(op=1, kind=3, transaction=bytes(4), hardware=HARDWARE, options=options)
    read = messages4.decode(as_for_us4(messages4.encode(asked)))
    assert (read.options.server_id, read.options.requested_address) == (ADDRESS, FOUR)
    message = messages6.Message(3, bytes(3), Options6(client_id=WHO, server_id=THEIRS, **has()))
    for relays in ((), (Relay(peer=CLIENT), Relay(peer=CLIENT, interface_id=b"x"))):
        data = messages6.encode(message)
        for relay in relays:
            data = messages6.encode_forward(data, relay)
        found = messages6.decode(as_for_us6(data))
        assert len(found.relays) == len(relays)
        assert (found.message.options.server_id, found.message.options.client_id) == (DUID, WHO)
        assert found.message.options.na == message.options.na


def test_every_cut_of_a_packet() -> None:
    data = b"x" * 20
    four = bytes([0x45, 0, 0, 48, 0, 0, 0, 0, 64, 17, 0, 0, *SERVER[12:], *FOUR[12:], 0, 67, 0, 68, 0, 28, 0, 0]) + data
    six = bytes([0x60, 0, 0, 0, 0, 28, 17, 64, *CLIENT, *SIX, 2, 34, 2, 35, 0, 28, 0, 0]) + data
    for packet, source, to in ((four, SERVER, FOUR), (six, CLIENT, SIX)):
        found = datagram(packet, HARDWARE)
        assert found is not None
        assert (found.source, found.to, found.data, found.hardware) == (source, to, data, HARDWARE)
        assert datagram(packet + b"padding", HARDWARE) == found
        for end in range(len(packet)):
            assert datagram(packet[:end], HARDWARE) is None
