"""What one machine on the link can bring about by DHCPv4, and what is not for the server."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import pytest

from dnms.agents.subnet.books import Books
from dnms.agents.subnet.dhcp4_server import BURST, Dhcp4Server
from dnms.agents.subnet.dhcp_offers import LASTS, MAX_OFFERS, Offers
from dnms.agents.subnet.newcomers import LEASES_A_NODE, LINK_WIDE
from dnms.bus.append import PATIENCE
from dnms.domain.declining import MAX_DECLINES
from dnms.domain.identity import duid_of_hardware, iaid_of_hardware, identity_of
from dnms.events.address import AddressAllocated, AddressDeclined, AddressReleased
from dnms.events.ip import parse_address
from dnms.linux.errors import KernelError
from dnms.wire.dhcp4.codes import BROADCAST, Kind
from dnms.wire.dhcp4.messages import Message, encode
from dnms.wire.dhcp4.options import Options
from tests.unit.agents.conftest import FrailLog, Site
from tests.unit.agents.dhcp4_line import (
    HARDWARE,
    OTHER,
    SECOND,
    SEQUENTIAL,
    SERVED,
    SERVER,
    STATIC,
    Client,
    Wire,
    books,
    client,
    of,
    server,
    serving,
    wire,
)
from tests.virtual_time import pass_time

__all__ = ["books", "client", "server", "wire"]


async def test_one_machine_cannot_have_all(log: FrailLog, wire: Wire, server: Dhcp4Server) -> None:
    """Neither by client ids, nor by hardware addresses that it invents."""
    given = 0
    for number in range(2 * LEASES_A_NODE + 3):
        await pass_time(1)
        given += await Client(wire).ask(Kind.DISCOVER, client_id=b"\x00" + number.to_bytes(4)) is not None
    assert 2 * LEASES_A_NODE <= given <= 2 * LEASES_A_NODE + 1  # one more in the seconds that have passed


async def test_nor_by_hardware_addresses_that_it_invents(
    site: Site, log: FrailLog, wire: Wire, server: Dhcp4Server
) -> None:
    await site.apply(
        SERVED.replace('"192.0.2.0/24"', '"192.0.2.0/24", "10.0.0.0/16"').replace("192.0.2.0/28", "10.0.0.0/16")
    )
    await pass_time(1)
    for number in range(2 * LINK_WIDE + 100):
        hardware = b"\x02\x01" + number.to_bytes(4)
        message = Message(op=1, kind=1, transaction=number.to_bytes(4), hardware=hardware, flags=BROADCAST)
        wire.say(encode(message))
        await pass_time(0.001)
    assert 2 * LINK_WIDE <= len(wire.sent) <= 2 * LINK_WIDE + 10
    assert server.dropped["busy"] == 2 * LINK_WIDE + 100 - len(wire.sent)
    assert of(log, AddressAllocated) == []


async def test_what_strangers_give_back_is_not_in_the_log(
    log: FrailLog, wire: Wire, client: Client, server: Dhcp4Server
) -> None:
    """Anybody on the link can say it of any number of clients; only who has the address ends anything."""
    mine = await client.has()
    before = len(log.records)
    for number in range(10):
        stranger = Client(wire, b"\x02\x01" + number.to_bytes(4))
        await stranger.ask(Kind.RELEASE, client=mine, server_id=SERVER)
        await stranger.ask(Kind.DECLINE, requested_address=STATIC, server_id=SERVER)
    assert len(log.records) == before
    assert server.dropped == {"no-binding": 20}
    await client.ask(Kind.RELEASE, client=mine, server_id=SERVER)
    assert [each.address for each in of(log, AddressReleased)] == [mine]


@pytest.mark.parametrize("strategy", ["hash", "sequential"])
async def test_what_others_are_offered_keeps_nobody_from_the_rest_of_the_pool(
    site: Site, log: FrailLog, wire: Wire, server: Dhcp4Server, strategy: str
) -> None:
    """However many have been offered something and never ask for it."""
    pool = f'range = "192.0.2.0/25"\nstrategy = "{strategy}"'
    await site.apply(SERVED.replace('range = "192.0.2.0/28"', pool))
    await pass_time(1)
    offered = set()
    for number in range(130):
        answer = await Client(wire, b"\x02\x01" + number.to_bytes(4)).ask(Kind.DISCOVER, seconds=0.1)
        offered |= {answer.yours} if answer is not None else set()
    assert offered == {parse_address(f"192.0.2.{number}") for number in range(2, 128)}
    assert server.answered == {"offer": 126}
    await pass_time(LASTS)
    mine = await Client(wire).has()
    assert mine in offered
    assert [each.address for each in of(log, AddressAllocated)] == [mine]


async def test_who_is_offered_an_address_again_and_again_does_not_keep_it_from_others(
    site: Site, wire: Wire, server: Dhcp4Server
) -> None:
    await site.apply(SEQUENTIAL)
    await pass_time(1)
    first, second = Client(wire), Client(wire, OTHER)
    mine, before = parse_address("192.0.2.2"), []
    for _ in range(3):
        answer = await first.ask(Kind.DISCOVER, seconds=LASTS / 4)
        before.append(answer and answer.yours)
    assert before == [mine] * 3
    await pass_time(LASTS / 4)
    assert await second.has() == mine


async def test_what_was_found_in_use_is_neither_offered_nor_given(
    site: Site, log: FrailLog, books: Books, wire: Wire
) -> None:
    """Though the client keeps as many addresses from others as it may, and so this one is not declined."""
    async with serving(books, wire, at_once=40) as server:
        await site.apply(SEQUENTIAL)
        await pass_time(1)
        wire.used = {parse_address(f"192.0.2.{number}"): frozenset({OTHER}) for number in range(15)}
        client = Client(wire)
        assert await client.ask(Kind.DISCOVER, seconds=20) is None
        *declined, taken = wire.asked
        assert await client.ask(Kind.DISCOVER) is None
        assert await client.select(taken) is None
        assert [each.address for each in of(log, AddressDeclined)] == declined
        assert (len(declined), server.answered) == (MAX_DECLINES, {})
        del wire.used[taken]
        assert await client.has() == taken


async def test_what_is_looked_at_is_not_offered_to_who_asks_again(
    site: Site, log: FrailLog, wire: Wire, client: Client, server: Dhcp4Server
) -> None:
    """By several messages at once, and by one while the link is asked."""
    await site.apply(SEQUENTIAL)
    await pass_time(1)
    first, second = parse_address("192.0.2.2"), parse_address("192.0.2.4")
    wire.used, wire.looks_for = {first: frozenset({OTHER})}, 0.9

    def say(number: int, kind: Kind, **said: Any) -> None:
        options, transaction = Options(**said), number.to_bytes(4)
        wire.say(encode(Message(op=1, kind=int(kind), transaction=transaction, hardware=HARDWARE, options=options)))

    say(1, Kind.DISCOVER)
    say(2, Kind.DISCOVER)
    await pass_time(0.5)
    say(3, Kind.DISCOVER)
    say(4, Kind.DISCOVER, rapid_commit=True)
    say(5, Kind.REQUEST, requested_address=first, server_id=SERVER)
    await pass_time(0.3)
    assert (wire.sent, wire.asked, of(log, AddressAllocated)) == ([], [first], [])
    await pass_time(2)
    ((answer, _),) = wire.sent
    assert (answer.transaction, answer.kind, answer.yours) == ((1).to_bytes(4), Kind.OFFER, second)
    assert (wire.asked, server.dropped) == ([first, second], {"silent": 4})


async def test_what_could_not_be_looked_at_is_not_offered(
    site: Site, wire: Wire, client: Client, server: Dhcp4Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    await site.apply(SEQUENTIAL)
    await pass_time(1)

    async def users(addresses: Collection[bytes]) -> Mapping[bytes, frozenset[bytes]]:
        raise KernelError("no-buffers", "cannot ask the link")

    with monkeypatch.context() as broken:
        broken.setattr(wire, "users", users)
        for _ in range(2):
            assert await client.ask(Kind.DISCOVER) is None
    assert await client.has() == parse_address("192.0.2.2")
    assert len(wire.asked) == 1


async def test_who_asks_without_a_pause_is_not_heard(wire: Wire, server: Dhcp4Server) -> None:
    message = encode(Message(op=1, kind=1, transaction=b"abcd", hardware=HARDWARE))
    for _ in range(10 * int(BURST)):
        wire.say(message)
    await pass_time(0.1)
    assert len(wire.sent) == int(BURST)
    assert {answer.yours for answer, _ in wire.sent} == {wire.sent[0][0].yours}
    assert server.dropped == {"peer-rate": 9 * int(BURST)}


async def test_what_is_requested_again_while_it_is_decided_is_answered_once(
    log: FrailLog, wire: Wire, server: Dhcp4Server, client: Client
) -> None:
    offered = await client.ask(Kind.DISCOVER)
    assert offered is not None
    options = Options(server_id=wire.address, requested_address=offered.yours)
    message = encode(Message(op=1, kind=3, transaction=b"abcd", hardware=HARDWARE, flags=BROADCAST, options=options))
    wire.sent.clear()
    for _ in range(5):
        wire.say(message)
    await pass_time(0.1)
    ((answer, _),) = wire.sent
    assert (answer.kind, answer.yours) == (Kind.ACK, offered.yours)
    assert server.dropped == {"repeated": 4}
    assert len(of(log, AddressAllocated)) == 1


async def test_what_is_not_for_it(wire: Wire, client: Client, server: Dhcp4Server) -> None:
    whole = encode(Message(op=1, kind=1, transaction=b"abcd", hardware=HARDWARE))
    wire.say(b"")
    wire.say(whole[:240])
    wire.say(encode(Message(op=2, kind=5, transaction=b"abcd", hardware=HARDWARE)))
    wire.say(encode(Message(op=1, kind=2, transaction=b"abcd", hardware=HARDWARE)))
    wire.say(encode(Message(op=1, kind=99, transaction=b"abcd", hardware=HARDWARE)))
    wire.say(encode(Message(op=1, kind=1, transaction=b"abcd", hardware=b"\xff" * 6)))
    wire.say(encode(Message(op=1, kind=1, transaction=b"abcd", hardware=HARDWARE, hardware_type=32)))
    assert await client.select(STATIC, server_id=SECOND) is None
    assert await client.ask(Kind.REQUEST) is None
    assert wire.sent == []
    assert server.dropped == {"malformed": 3, "direction": 2, "kind": 1, "unexpected": 2, "server-id": 1}


def test_offers_have_an_end_and_a_number() -> None:
    offers = Offers()

    def given(number: int) -> AddressAllocated:
        address = parse_address("10.0.0.0")[:12] + number.to_bytes(4)
        return AddressAllocated(address=address, client=bytes(16), iaid=number, pool="p", valid_until=1, horizon=1)

    for number in range(MAX_OFFERS + 10):
        offers.add((bytes(16), number, 4), given(number), now=0.0)
    assert len(offers) == MAX_OFFERS
    last = (bytes(16), MAX_OFFERS, 4)
    assert offers.of(last, now=LASTS - 1) is not None
    assert offers.to_others(given(MAX_OFFERS).address, (bytes(16), 1, 4), now=1.0) is not None
    assert offers.to_others(given(MAX_OFFERS).address, last, now=1.0) is None
    assert offers.of(last, now=LASTS) is None
    offers.add(last, given(7), now=LASTS)
    assert len(offers) == 1
    offers.add(last, given(7), now=2 * LASTS - 1)
    assert offers.of(last, now=2 * LASTS - 1) is not None
    assert offers.of(last, now=2 * LASTS) is None  # as it was first
    offers.remove(last)
    assert offers.to_others(given(7).address, (bytes(16), 1, 4), now=1.0) is None


async def test_no_two_of_ten_thousand_are_offered_the_same_address(
    log: FrailLog, site: Site, books: Books, wire: Wire
) -> None:
    """Of three times as many, where chance would have two offered the same. Who takes up an offer has just that."""
    clients = 10_000
    ranges = SERVED.replace('"192.0.2.0/24"', '"192.0.2.0/24", "10.0.0.0/17"').replace("192.0.2.0/28", "10.0.0.0/17")

    async def say(number: int, kind: Kind, **said: Any) -> None:
        message = Message(
            op=1,
            kind=int(kind),
            transaction=number.to_bytes(4),
            hardware=b"\x02\x01" + number.to_bytes(4),
            flags=BROADCAST,
            options=Options(**said),
        )
        wire.say(encode(message))
        if number % 100 == 90:  # now and then what is to be thought over is
            await pass_time(0.001)

    async with serving(books, wire, at_once=clients) as server:
        await site.apply(ranges)
        await pass_time(1)
        for number in range(clients):
            await say(number, Kind.DISCOVER)
        await pass_time(1)
        offered = [answer.yours for answer, _ in sorted(wire.sent, key=lambda each: each[0].transaction)]
        assert (server.answered, server.dropped) == ({"offer": clients}, {})
        distinct = len(set(offered))
        assert distinct == clients
        those = range(0, clients, 10)
        for number in those:
            await say(number, Kind.REQUEST, server_id=wire.address, requested_address=offered[number])
        await pass_time(1)
        assert (server.answered, server.dropped) == ({"offer": clients, "ack": len(those)}, {})
    are_as_offered = [each.address for each in of(log, AddressAllocated)] == [offered[number] for number in those]
    assert are_as_offered


def test_who_a_client_is() -> None:
    duid = bytes.fromhex("00030001020000000001")
    assert identity_of(b"\xff\0\0\0\x07" + duid, HARDWARE) == (duid, 7)
    hardware = duid_of_hardware(HARDWARE), iaid_of_hardware(HARDWARE)
    assert identity_of(b"", HARDWARE) == identity_of(b"\x01" + HARDWARE, HARDWARE) == hardware
    own = {identity_of(each, HARDWARE) for each in (b"\x00a", b"\x00b", b"\x01" + OTHER, b"\xff\0\0\0\x07\0\x03")}
    own |= {identity_of(b"\x00" + bytes(size), HARDWARE) for size in (100, 200, 254)}
    assert len(own) == 7
    assert all(each.startswith(bytes.fromhex("000200007ed9")) and len(each) <= 130 for each, _ in own)


async def test_who_waits_while_the_log_goes_away_is_answered_once_it_is_back(
    log: FrailLog, books: Books, wire: Wire, server: Dhcp4Server, client: Client
) -> None:
    offered = await client.ask(Kind.DISCOVER)
    assert offered is not None
    log.cut = True
    options = Options(server_id=wire.address, requested_address=offered.yours)
    message = encode(Message(op=1, kind=3, transaction=b"abcd", hardware=HARDWARE, flags=BROADCAST, options=options))
    wire.sent.clear()
    wire.say(message)
    await pass_time(PATIENCE + 1)
    assert books.outage.active
    assert wire.sent == []
    assert server.dropped == {"silent": 1}
    log.cut = False
    await pass_time(30)
    wire.say(message)
    await pass_time(1)
    ((answer, _),) = wire.sent
    assert (answer.kind, answer.yours) == (Kind.ACK, offered.yours)
