"""Clients that accept it are told to ask again when they are due something else, and others are not."""

from __future__ import annotations

import hmac
from typing import Any

import pytest

from dnms.agents.subnet.books import Books
from dnms.agents.subnet.dhcp6_server import Dhcp6Server
from dnms.events.ip import parse_address
from dnms.events.requests import HoldAddress, MoveAddress
from dnms.wire.dhcp6.codes import Kind
from dnms.wire.dhcp6.messages import Message, Relay, decode, encode_forward, wrapped
from dnms.wire.dhcp6.options import Options, write
from dnms.wire.dhcp6.reconfigure import MOST
from tests.unit.agents.conftest import FrailLog, Site, client_id
from tests.unit.agents.dhcp6_wire import OTHER_SERVER, PEER, SERVED, SERVER, Wire, alarms, books, server, serving, wire
from tests.unit.agents.test_dhcp6_addresses import BOTH, DUID, OTHER, ask, lease, na_of
from tests.unit.agents.test_dhcp6_server import ask as ask_prefix
from tests.virtual_time import pass_time

__all__ = ["alarms", "books", "server", "wire"]

NEW = parse_address("2001:db8:1:1::beef")


def told(wire: Wire) -> list[Message]:
    return [message for message, _ in wire.sent if message.kind == Kind.RECONFIGURE]


async def accepting(wire: Wire, duid: bytes = DUID) -> tuple[bytes, bytes]:
    """The address that a client requests which accepts it, and its key."""
    answer = await ask(wire, Kind.REQUEST, client_id=duid, reconfigure_accept=True, requested=(23,))
    assert answer is not None
    assert answer.options.reconfigure_accept
    assert answer.options.authentication[:3] == bytes((3, 1, 0))
    wire.sent.clear()
    return na_of(answer).addresses[0].address, answer.options.authentication[-16:]


async def test_who_is_moved_is_told_at_once_until_it_asks(books: Books, wire: Wire, server: Dhcp6Server) -> None:
    old, key = await accepting(wire)
    await books.decide(MoveAddress(client=client_id(DUID), iaid=7, address=old, to=NEW))
    await pass_time(1)
    (message,) = told(wire)
    assert wire.sent[0][1] == PEER
    assert (message.options.client_id, message.options.server_id) == (DUID, SERVER)
    assert message.options.reconfigure == Kind.RENEW
    assert message.options.authentication[11:12] == b"\2"
    assert message.options.authentication[-16:] != key
    await pass_time(6)
    assert len(told(wire)) == 3  # after 2 s, and after 4
    counters = [each.options.authentication[3:11] for each in told(wire)]
    assert counters == sorted(set(counters))
    (new, *_) = na_of(await ask(wire, Kind.RENEW, old, reconfigure_accept=True)).addresses
    assert new.address == NEW
    wire.sent.clear()
    await pass_time(600)
    assert told(wire) == []


async def test_the_digest_is_by_the_key_that_it_was_told(
    books: Books, wire: Wire, server: Dhcp6Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, key = await accepting(wire)
    said: list[bytes] = []

    def send(data: bytes, _: object) -> bool:
        said.append(data)
        return True

    monkeypatch.setattr(wire, "send", send)
    await books.decide(MoveAddress(client=client_id(DUID), iaid=7, address=old, to=NEW))
    await pass_time(1)
    (data,) = said
    assert hmac.digest(key, data[:-16] + bytes(16), "md5") == data[-16:]


async def test_who_does_not_ask_is_told_eight_times(books: Books, wire: Wire, server: Dhcp6Server) -> None:
    old, _ = await accepting(wire)
    await books.decide(MoveAddress(client=client_id(DUID), iaid=7, address=old, to=NEW))
    await pass_time(80)
    assert 5 <= len(told(wire)) < MOST
    await pass_time(2_000)
    assert len(told(wire)) == MOST


async def test_who_does_not_accept_it_hears_nothing(books: Books, wire: Wire, server: Dhcp6Server) -> None:
    old = await lease(wire)
    answer = await ask(wire, Kind.RENEW, old)
    assert answer is not None
    assert (answer.options.reconfigure_accept, answer.options.authentication) == (False, b"")
    wire.sent.clear()
    await books.decide(MoveAddress(client=client_id(DUID), iaid=7, address=old, to=NEW))
    await pass_time(5)
    assert wire.sent == []


async def test_who_has_released_hears_nothing(site: Site, wire: Wire, server: Dhcp6Server) -> None:
    old, _ = await accepting(wire)
    await ask(wire, Kind.RELEASE, old)
    wire.sent.clear()
    await site.apply(SERVED.replace("2001:db8::53", "2001:db8::54"))
    await pass_time(5)
    assert wire.sent == []


async def test_a_changed_plan_reaches_those_whom_it_concerns(site: Site, wire: Wire, server: Dhcp6Server) -> None:
    _, mine = await accepting(wire)
    await site.apply(SERVED + '[[subnet]]\nname = "lab"\nprefixes = ["2001:db8:2::/64"]\n')
    await site.apply(SERVED.replace("preferred = 100", "preferred = 150"))  # which it hears when it renews
    await pass_time(5)
    assert told(wire) == []
    await site.apply(SERVED.replace("2001:db8::53", "2001:db8::54"))
    await pass_time(1)
    assert len(told(wire)) == 1
    _, other = await accepting(wire, OTHER)
    assert mine != other


async def test_a_stateless_client_asks_again_for_what_it_asked(site: Site, wire: Wire, server: Dhcp6Server) -> None:
    said: dict[str, Any] = {"na": (), "requested": (23,), "reconfigure_accept": True}
    answer = await ask(wire, Kind.INFORMATION_REQUEST, **said)
    assert answer is not None
    assert answer.options.authentication
    wire.sent.clear()
    await site.apply(SERVED.replace("2001:db8::53", "2001:db8::54"))
    await pass_time(1)
    (message,) = told(wire)
    assert message.options.reconfigure == Kind.INFORMATION_REQUEST


async def test_another_address_for_the_same_interface_is_news(books: Books, wire: Wire, server: Dhcp6Server) -> None:
    old, _ = await accepting(wire)
    for address in (old, NEW):
        await books.decide(HoldAddress(client=client_id(DUID), iaid=7, family=6, address=address))
    await pass_time(1)
    assert len(told(wire)) == 1
    has = {each.address for each in na_of(await ask(wire, Kind.RENEW, old)).addresses}
    assert has == {old, NEW}


async def test_a_prefix_that_the_plan_has_no_place_for_any_more(site: Site, wire: Wire, server: Dhcp6Server) -> None:
    await site.apply(BOTH)
    await pass_time(1)
    answer = await ask_prefix(wire, Kind.REQUEST, reconfigure_accept=True)
    assert answer is not None
    assert answer.options.pd[0].prefixes
    wire.sent.clear()
    await site.apply(BOTH.replace("2001:db8:f000::/48", "2001:db8:e000::/48"))
    await pass_time(1)
    assert [message.options.reconfigure for message in told(wire)] == [Kind.RENEW]


async def test_through_the_relays_that_it_came_through(site: Site, wire: Wire, server: Dhcp6Server) -> None:
    relay = Relay(link=parse_address("2001:db8:1:1::9"), peer=parse_address("fe80::7"), interface_id=b"eth7")
    inner = Options(client_id=DUID, requested=(23,), reconfigure_accept=True)
    data = encode_forward(bytes([Kind.INFORMATION_REQUEST]) + b"abc" + write(inner), relay)
    sender = ("2001:db8:99::9", 547, 0, 0)
    wire.say(data, sender)
    await pass_time(1)
    wire.relayed.clear()
    await site.apply(SERVED.replace("2001:db8::53", "2001:db8::54"))
    await pass_time(1)
    ((relayed, to),) = wire.relayed
    assert to == sender
    assert relayed.message.kind == Kind.RECONFIGURE
    assert [(each.interface_id, each.peer) for each in relayed.relays] == [(b"eth7", relay.peer)]
    assert decode(wrapped(b"\x0a" + bytes(3), (relay,))).relays[0].interface_id == b"eth7"


async def test_while_the_log_is_away_nobody_is_told_and_then_they_are(
    books: Books, log: FrailLog, site: Site, wire: Wire, server: Dhcp6Server
) -> None:
    await accepting(wire)
    await site.apply(SERVED.replace("2001:db8::53", "2001:db8::54"))
    log.cut = True
    books.outage.begin("cut off by the test")
    await pass_time(5)
    assert told(wire) == []
    log.cut = False
    await pass_time(30)
    assert told(wire)


async def test_each_server_has_its_own_key(site: Site, wire: Wire, server: Dhcp6Server) -> None:
    old, key = await accepting(wire)
    other = Wire()
    async with site.agent("a2") as second, serving(second, other, duid=OTHER_SERVER):
        answer = await ask(other, Kind.REBIND, old, reconfigure_accept=True)
        assert answer is not None
        assert answer.options.authentication[-16:] != key
