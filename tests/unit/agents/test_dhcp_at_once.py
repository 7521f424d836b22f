"""What a DHCPv6 server answers without a task: as it would with one, and where the log goes away meanwhile too."""

from __future__ import annotations

from dnms.agents.subnet.books import Books
from dnms.agents.subnet.dhcp6_server import Dhcp6Server
from dnms.bus.append import PATIENCE
from dnms.events.address import AddressAllocated, OutageGranted
from dnms.events.node import NodeIdentified
from dnms.wire.dhcp6.associations import IaNa
from dnms.wire.dhcp6.codes import Kind
from dnms.wire.dhcp6.messages import Message, Relay, encode, encode_forward
from dnms.wire.dhcp6.options import Options
from tests.unit.agents.conftest import FrailLog, Site
from tests.unit.agents.dhcp6_wire import SERVED, SERVER, Wire, alarms, books, server, serving, wire
from tests.virtual_time import pass_time

__all__ = ["alarms", "books", "server", "wire"]

DUIDS = [b"\x00\x04client-%d" % number for number in range(4)]


def say(wire: Wire, kind: Kind, duid: bytes, *, iaids: tuple[int, ...] = (7,), rapid: bool = False) -> None:
    named = SERVER if kind in (Kind.REQUEST, Kind.RENEW) else b""
    na = tuple(IaNa(iaid=iaid) for iaid in iaids)
    wire.say(encode(Message(int(kind), duid[-3:], Options(client_id=duid, server_id=named, na=na, rapid_commit=rapid))))


async def meet(wire: Wire) -> None:
    """Have the server know the hardware address of who speaks: it has asked the link."""
    say(wire, Kind.SOLICIT, b"\x00\x04another")
    await pass_time(1)
    wire.sent.clear()


def addresses(wire: Wire) -> list[tuple[bytes, ...]]:
    """Of each association of each answer, in order."""
    found = [tuple(each.address for each in na.addresses) for message, _ in wire.sent for na in message.options.na]
    wire.sent.clear()
    return found


async def test_what_is_foreseen_is_told_in_the_same_step_and_is_as_with_a_draft(
    wire: Wire, server: Dhcp6Server
) -> None:
    await meet(wire)
    for duid in DUIDS:
        say(wire, Kind.SOLICIT, duid)
    alone = addresses(wire)
    assert len(set(alone)) == len(DUIDS)
    for duid in DUIDS:
        say(wire, Kind.SOLICIT, duid, iaids=(7, 8))  # two of one client are drafted
    assert addresses(wire)[::2] == alone
    for duid in DUIDS:
        say(wire, Kind.REQUEST, duid)
    assert wire.sent == []  # nothing is told before it is in the log
    await pass_time(1)
    assert sorted(addresses(wire)) == sorted(alone)
    for duid in DUIDS:
        say(wire, Kind.RENEW, duid)
    assert addresses(wire) == alone


async def test_those_who_ask_together_are_in_one_commit(log: FrailLog, wire: Wire, server: Dhcp6Server) -> None:
    await meet(wire)
    before = len([record for record in log.records if ".ledger." in record.subject])
    for duid in DUIDS:
        say(wire, Kind.SOLICIT, duid, rapid=True)
    await pass_time(1)
    assert len(wire.sent) == 4
    assert len([record for record in log.records if ".ledger." in record.subject]) == before + 1
    assert len([event for event in log.events() if isinstance(event, AddressAllocated)]) == 4
    assert len([event for event in log.events() if isinstance(event, NodeIdentified)]) == 4


async def test_who_waits_while_the_log_goes_away_has_what_the_agent_gives_alone(
    log: FrailLog, books: Books, wire: Wire, server: Dhcp6Server
) -> None:
    await meet(wire)
    say(wire, Kind.SOLICIT, DUIDS[0])
    ((offered,),) = addresses(wire)
    log.cut = True
    say(wire, Kind.REQUEST, DUIDS[0])
    say(wire, Kind.REQUEST, DUIDS[0])
    await pass_time(PATIENCE + 1)
    assert books.outage.active
    assert addresses(wire) == [(offered,)]
    assert server.dropped == {"repeated": 1}
    log.cut = False
    await pass_time(30)
    assert [event.address for event in log.events() if isinstance(event, OutageGranted)] == [offered]


async def test_an_operator_who_lets_many_come_from_one_address_lets_a_relay_say_as_much_more(
    books: Books, site: Site, wire: Wire
) -> None:
    """`--new-nodes 400` is a hundred times as much as by default."""
    relay = ("2001:db8:1:1::99", 547, 0, 0)
    async with serving(books, wire, at_once=400) as server:
        await site.apply(SERVED)
        await pass_time(1)
        said = 2_500  # at once, of one client's address: by default 20 of an address, and 2 000 of a relay
        for number in range(said):
            options = Options(client_id=b"\x00\x04" + number.to_bytes(4), na=(IaNa(iaid=7),))
            data = encode(Message(int(Kind.SOLICIT), number.to_bytes(3), options))
            link, peer = bytes.fromhex("20010db8000100010000000000000000"), bytes.fromhex("fe80") + bytes(13) + b"\x07"
            wire.say(encode_forward(data, Relay(link=link, peer=peer)), relay)
        assert (len(wire.relayed), server.dropped) == (2_000, {"peer-rate": 500})
