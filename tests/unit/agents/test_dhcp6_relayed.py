"""What comes through relays: whose link it is of, and the way back."""

from __future__ import annotations

from dnms.agents.subnet.books import Books
from dnms.agents.subnet.dhcp6_server import BURST, RELAY_BURST, Dhcp6Server
from dnms.events.address import AddressAllocated
from dnms.events.ip import parse_address
from dnms.linux.multicast import Peer
from dnms.wire.dhcp6.associations import IaNa
from dnms.wire.dhcp6.codes import Kind
from dnms.wire.dhcp6.messages import MAX_HOPS, Message, Relay, Relayed, encode, encode_forward, encode_reply
from dnms.wire.dhcp6.options import Options
from tests.unit.agents.conftest import FrailLog, client_id
from tests.unit.agents.dhcp6_wire import PEER, Wire, alarms, books, server, wire
from tests.virtual_time import pass_time

__all__ = ["alarms", "books", "server", "wire"]

RELAY: Peer = ("2001:db8:9::9", 547, 0, 0)
HERE, ELSEWHERE = parse_address("2001:db8:1:1::1"), parse_address("2001:db8:eeee::1")
CLIENT = parse_address("fe80::77")
MAC = bytes.fromhex("02005e100001")
DUID = b"\x00\x04client"
NEAR = Relay(link=HERE, peer=CLIENT, interface_id=b"port 7", remote_id=b"\0\0\0\7switch 3", link_layer=b"\0\1" + MAC)


async def ask(wire: Wire, *relays: Relay, source: Peer = RELAY, duid: bytes = DUID) -> Relayed | None:
    """What is answered to a Solicit that has come through these relays, the one next to the client first."""
    message = Message(int(Kind.SOLICIT), b"abc", Options(client_id=duid, na=(IaNa(iaid=7),), rapid_commit=True))
    data = encode(message)
    for relay in relays:
        data = encode_forward(data, relay)
    wire.relayed.clear()
    wire.say(data, source)
    await pass_time(1)
    assert not wire.sent
    if not wire.relayed:
        return None
    ((answer, to),) = wire.relayed
    assert to == source
    return answer


async def test_it_goes_back_as_it_came_and_the_relay_says_whose_hardware_it_is(
    books: Books, log: FrailLog, wire: Wire, server: Dhcp6Server
) -> None:
    answer = await ask(wire, NEAR)
    assert answer is not None
    (relay,) = answer.relays
    assert (relay.link, relay.peer, relay.interface_id) == (HERE, CLIENT, b"port 7")
    assert answer.message.kind == Kind.REPLY
    (given,) = [event for event in log.events() if isinstance(event, AddressAllocated)]
    assert answer.message.options.na[0].addresses[0].address == given.address
    node = await books.opened(client_id(DUID))
    assert node is not None
    assert node.identity is not None
    assert [each.value for each in node.identity.hardware] == [MAC]


async def test_any_depth_and_the_link_is_what_the_relay_next_to_the_client_says(
    wire: Wire, server: Dhcp6Server
) -> None:
    nearest = Relay(peer=CLIENT, interface_id=b"a")  # a switch: it says no link (RFC 6221)
    far = [Relay(hops=n, link=ELSEWHERE, peer=HERE, interface_id=b"%d" % n) for n in range(2, MAX_HOPS + 1)]
    relays = (nearest, Relay(hops=1, link=HERE, peer=CLIENT, interface_id=b"b"), *far)
    answer = await ask(wire, *relays)
    assert answer is not None
    assert [each.interface_id for each in answer.relays] == [each.interface_id for each in reversed(relays)]
    assert [each.hops for each in answer.relays] == list(range(MAX_HOPS, -1, -1))
    assert await ask(wire, *relays, Relay(hops=9, link=ELSEWHERE, peer=HERE)) is None
    assert server.dropped["malformed"] == 1


async def test_other_links_are_other_agents(wire: Wire, server: Dhcp6Server, log: FrailLog) -> None:
    before = len(log.records)
    assert await ask(wire, Relay(link=ELSEWHERE, peer=CLIENT)) is None
    assert await ask(wire, Relay(link=ELSEWHERE, peer=CLIENT), Relay(link=HERE, peer=CLIENT)) is None
    assert await ask(wire, Relay(peer=CLIENT)) is None  # it says no link, and is not on this one
    assert server.dropped == {"not-on-link": 3}
    assert await ask(wire, Relay(link=HERE, peer=ELSEWHERE)) is None  # no client's address
    wire.say(encode_reply(Message(int(Kind.REPLY), b"abc", Options(client_id=DUID)), (NEAR,)))
    assert server.dropped["direction"] == 2
    assert len(log.records) == before


async def test_a_switch_on_the_link_that_says_no_link(wire: Wire, server: Dhcp6Server) -> None:
    assert await ask(wire, Relay(peer=CLIENT, interface_id=b"port 3"), source=PEER) is not None


async def test_a_relay_has_many_clients_and_each_of_them_its_share(wire: Wire, server: Dhcp6Server) -> None:
    solicit = encode(Message(int(Kind.SOLICIT), b"abc", Options(client_id=DUID, na=(IaNa(iaid=7),))))
    for number in range(int(RELAY_BURST) + 10):
        peer = CLIENT[:14] + (number // int(BURST)).to_bytes(2)
        wire.say(encode_forward(solicit, Relay(link=HERE, peer=peer)), RELAY)
    assert server.dropped == {"rate": 10}  # what is said again is answered again, since nothing is decided for it
    await pass_time(1)
    wire.relayed.clear()
    for _ in range(int(BURST) + 10):
        wire.say(encode_forward(solicit, Relay(link=HERE, peer=CLIENT[:15] + b"\xff")), RELAY)
    assert (server.dropped["rate"], server.dropped["peer-rate"]) == (10, 10)
