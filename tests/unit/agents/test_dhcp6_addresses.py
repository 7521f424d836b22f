"""The addresses that an agent gives by DHCPv6, on a log in memory."""

from __future__ import annotations

from contextlib import AsyncExitStack
from random import Random
from typing import Any

import pytest

from dnms.agents.subnet.books import Books
from dnms.agents.subnet.dhcp6_server import Dhcp6Server
from dnms.agents.subnet.newcomers import LEASES_A_NODE
from dnms.bus.port import Unavailable
from dnms.domain.outage import LIFETIME
from dnms.events.address import (
    AddressAllocated,
    AddressDeclined,
    AddressReleased,
    AddressRenewed,
    HashMoved,
    OutageGranted,
)
from dnms.events.ip import parse_address, parse_prefix
from dnms.events.requests import AllocateAddress, HoldAddress, MoveAddress
from dnms.linux.multicast import Peer
from dnms.wire.dhcp6.associations import IaAddress, IaNa, IaPd
from dnms.wire.dhcp6.codes import Kind, Status
from dnms.wire.dhcp6.messages import Message, Relay, encode, encode_forward
from dnms.wire.dhcp6.options import Options
from tests.unit.agents.conftest import Clock, FrailLog, MemoryJournal, Site, client_id, running
from tests.unit.agents.dhcp6_wire import OTHER_SERVER, PEER, SERVED, SERVER, Wire, alarms, books, server, serving, wire
from tests.virtual_time import pass_time

__all__ = ["alarms", "books", "server", "wire"]

DUID, OTHER = b"\x00\x04client", b"\x00\x04other"
LINK = parse_prefix("2001:db8:1:1::/64")
ELSEWHERE = parse_address("2001:db8:eeee::5")
BOTH = f"""{SERVED}
[[delegation]]
name = "blocks"
subnet = "office"
prefix = "2001:db8:f000::/48"
length = 56
preferred = 60
valid = 200
"""
POOL = SERVED[SERVED.index("[[pool]]") : SERVED.rindex("[[pool]]")]
NAMED = (Kind.REQUEST, Kind.RENEW, Kind.RELEASE, Kind.DECLINE)


async def ask(
    wire: Wire, kind: Kind, *addresses: bytes, peer: Peer = PEER, iaid: int = 7, server: bytes = SERVER, **said: Any
) -> Message | None:
    """What is answered to one message; None: nothing is."""
    named = {"server_id": server} if kind in NAMED else {}
    na = IaNa(iaid=iaid, addresses=tuple(IaAddress(address=each) for each in addresses))
    transaction = (len(wire.sent) + 77).to_bytes(3)
    wire.sent.clear()
    wire.say(
        encode(Message(int(kind), transaction, Options(**{"client_id": DUID, "na": (na,), **named, **said}))), peer
    )
    await pass_time(1)
    if not wire.sent:
        return None
    ((answer, to),) = wire.sent
    assert (to, answer.transaction) == (peer, transaction)
    assert answer.options.client_id == said.get("client_id", DUID)
    assert answer.options.server_id == server or kind not in NAMED
    return answer


def na_of(answer: Message | None) -> IaNa:
    assert answer is not None
    (na,) = answer.options.na
    return na


def status_of(na: IaNa) -> int:
    assert na.status is not None
    assert not na.addresses
    return na.status.code


async def lease(wire: Wire, **said: Any) -> bytes:
    """An address that is requested."""
    (given,) = na_of(await ask(wire, Kind.REQUEST, **said)).addresses
    return given.address


async def test_an_offer_is_what_is_given_then_and_nothing_is_given_before(
    log: FrailLog, wire: Wire, server: Dhcp6Server
) -> None:
    before = len(log.records)
    offer = await ask(wire, Kind.SOLICIT)
    assert offer is not None
    assert offer.kind == Kind.ADVERTISE
    (offered,) = na_of(offer).addresses
    assert offered.address in LINK
    assert (offered.preferred, offered.valid) == (100, 200)
    assert (na_of(offer).t1, na_of(offer).t2) == (50, 80)
    assert len(log.records) == before
    reply = await ask(wire, Kind.REQUEST, offered.address)
    assert reply is not None
    assert (reply.kind, na_of(reply).addresses) == (Kind.REPLY, (offered,))
    (given,) = [event for event in log.events() if isinstance(event, AddressAllocated)]
    assert (given.address, given.client, given.iaid) == (offered.address, client_id(DUID), 7)


async def test_rapid_commit(log: FrailLog, wire: Wire, server: Dhcp6Server) -> None:
    reply = await ask(wire, Kind.SOLICIT, rapid_commit=True)
    assert reply is not None
    assert (reply.kind, reply.options.rapid_commit) == (Kind.REPLY, True)
    (given,) = [event for event in log.events() if isinstance(event, AddressAllocated)]
    assert [each.address for each in na_of(reply).addresses] == [given.address]


async def test_several_associations_and_a_prefix_in_one_message(site: Site, wire: Wire, server: Dhcp6Server) -> None:
    await site.apply(BOTH)
    await pass_time(1)
    both: dict[str, Any] = {"na": (IaNa(iaid=1), IaNa(iaid=2)), "pd": (IaPd(iaid=1),)}
    offer = await ask(wire, Kind.SOLICIT, **both)
    reply = await ask(wire, Kind.REQUEST, **both)
    assert offer is not None
    assert reply is not None
    assert (offer.options.na, offer.options.pd) == (reply.options.na, reply.options.pd)
    assert [each.iaid for each in reply.options.na] == [1, 2]
    assert len({each.addresses[0].address for each in reply.options.na}) == 2
    assert reply.options.pd[0].prefixes[0].prefix.length == 56
    times = {(each.t1, each.t2) for each in reply.options.na} | {(each.t1, each.t2) for each in reply.options.pd}
    assert times == {(30, 48)}  # all at once, by what is preferred shortest
    released = await ask(wire, Kind.RELEASE, na=reply.options.na, pd=reply.options.pd)
    assert released is not None
    assert (released.options.na, released.options.pd) == ((), ())


async def test_it_renews_for_as_long_as_it_likes(log: FrailLog, clock: Clock, wire: Wire, server: Dhcp6Server) -> None:
    mine = await lease(wire)
    for kind in (Kind.RENEW, Kind.REBIND) * 10:
        clock.micros += 100_000_000
        (renewed,) = na_of(await ask(wire, kind, mine)).addresses
        assert (renewed.address, renewed.preferred, renewed.valid) == (mine, 100, 200)
    renewals = [event for event in log.events() if isinstance(event, AddressRenewed)]
    assert 2 <= len(renewals) <= 4  # the horizon is four lifetimes
    assert not [event for event in log.events() if isinstance(event, AddressReleased)]


async def test_what_a_client_does_not_have_is_ended_and_replaced(wire: Wire, server: Dhcp6Server) -> None:
    mine = await lease(wire)
    for kind in (Kind.RENEW, Kind.REBIND):
        given = {each.address: each.valid for each in na_of(await ask(wire, kind, ELSEWHERE, mine)).addresses}
        assert given == {mine: 200, ELSEWHERE: 0}
    (anew, ended) = na_of(await ask(wire, Kind.REBIND, ELSEWHERE, client_id=OTHER)).addresses
    assert anew.address in LINK
    assert (ended.address, ended.preferred, ended.valid) == (ELSEWHERE, 0, 0)
    theirs = anew.address
    (kept, ended) = na_of(await ask(wire, Kind.RENEW, theirs)).addresses  # another's
    assert (kept.address, ended.address, ended.valid) == (mine, theirs, 0)


async def test_who_rebinds_what_another_server_of_the_link_gave_is_not_answered(
    site: Site, wire: Wire, server: Dhcp6Server
) -> None:
    await site.apply(SERVED.replace('range = "2001:db8:1:1::/64"', 'range = "2001:db8:1:1:1::/80"'))
    await pass_time(1)
    assert await ask(wire, Kind.REBIND, parse_address("2001:db8:1:1::5")) is None
    assert server.dropped["silent"] == 1
    assert na_of(await ask(wire, Kind.REBIND, parse_address("2001:db8:1:1:1::5"))).addresses


async def test_before_a_plan_nothing_is_denied_to_who_has_something(log: FrailLog, clock: Clock, wire: Wire) -> None:
    books = Site(log, clock).books()
    async with running(books), serving(books, wire):
        for kind in (Kind.REBIND, Kind.CONFIRM):
            assert await ask(wire, kind, parse_address("2001:db8:1:1::5")) is None
        assert status_of(na_of(await ask(wire, Kind.SOLICIT))) == Status.NO_ADDRS_AVAIL


@pytest.mark.parametrize(
    "plan",
    [
        SERVED.replace('"office"', '"elsewhere"'),
        SERVED.replace('"2001:db8:1:1::/64", ', "").replace('"fe80::1", ', "").replace(POOL, ""),
    ],
)
async def test_where_the_plan_has_no_ipv6_for_the_link_another_server_speaks_for_it(
    books: Books, site: Site, wire: Wire, plan: str
) -> None:
    async with serving(books, wire):
        await site.apply(plan)
        await pass_time(1)
        for kind in (Kind.REBIND, Kind.CONFIRM):
            assert await ask(wire, kind, ELSEWHERE) is None
        await site.apply(SERVED)
        await pass_time(1)
        for kind in (Kind.REBIND, Kind.CONFIRM):
            assert await ask(wire, kind, ELSEWHERE) is not None


async def test_a_request_of_an_address_of_another_link(wire: Wire, server: Dhcp6Server, log: FrailLog) -> None:
    assert status_of(na_of(await ask(wire, Kind.REQUEST, ELSEWHERE))) == Status.NOT_ON_LINK
    assert not [event for event in log.events() if isinstance(event, AddressAllocated)]
    assert na_of(await ask(wire, Kind.SOLICIT, ELSEWHERE)).addresses[0].address in LINK


async def test_confirm(wire: Wire, server: Dhcp6Server, log: FrailLog) -> None:
    before = len(log.records)
    for address, expected in ((parse_address("2001:db8:1:1::5"), Status.SUCCESS), (ELSEWHERE, Status.NOT_ON_LINK)):
        reply = await ask(wire, Kind.CONFIRM, address)
        assert reply is not None
        assert reply.options.status is not None
        assert (reply.options.status.code, reply.options.na) == (expected, ())
    assert await ask(wire, Kind.CONFIRM) is None  # it names no address
    assert len(log.records) == before


async def test_release(wire: Wire, server: Dhcp6Server, log: FrailLog) -> None:
    mine = await lease(wire)
    assert status_of(na_of(await ask(wire, Kind.RELEASE, mine, client_id=OTHER))) == Status.NO_BINDING
    released = await ask(wire, Kind.RELEASE, mine)
    assert released is not None
    assert released.options.status is not None
    assert (released.options.status.code, released.options.na) == (Status.SUCCESS, ())
    (event,) = [event for event in log.events() if isinstance(event, AddressReleased)]
    assert event.address == mine
    assert status_of(na_of(await ask(wire, Kind.RELEASE, mine))) == Status.NO_BINDING


async def test_a_declined_address_is_given_to_nobody_and_its_client_gets_another(
    wire: Wire, server: Dhcp6Server, log: FrailLog
) -> None:
    mine = await lease(wire)
    assert status_of(na_of(await ask(wire, Kind.DECLINE, mine, client_id=OTHER))) == Status.NO_BINDING
    declined = await ask(wire, Kind.DECLINE, mine)
    assert declined is not None
    assert declined.options.status is not None
    assert (declined.options.status.code, declined.options.na) == (Status.SUCCESS, ())
    assert [event.address for event in log.events() if isinstance(event, AddressDeclined)] == [mine]
    assert [event.counter for event in log.events() if isinstance(event, HashMoved)] == [1]
    assert await lease(wire) != mine


async def test_an_address_that_is_kept_is_the_one_that_is_given(books: Books, wire: Wire, server: Dhcp6Server) -> None:
    kept = parse_address("2001:db8:1:1::beef")
    await books.decide(HoldAddress(client=client_id(DUID), iaid=7, family=6, address=kept))
    assert na_of(await ask(wire, Kind.SOLICIT)).addresses[0].address == kept
    assert await lease(wire) == kept
    assert await lease(wire, client_id=OTHER) != kept


async def test_who_is_moved_hears_it_when_it_renews_and_has_both_for_a_while(
    books: Books, wire: Wire, server: Dhcp6Server
) -> None:
    old, new = await lease(wire), parse_address("2001:db8:1:1::beef")
    await books.decide(MoveAddress(client=client_id(DUID), iaid=7, address=old, to=new))
    has = {each.address: each for each in na_of(await ask(wire, Kind.RENEW, old)).addresses}
    assert (has[new].preferred, has[new].valid) == (100, 200)
    assert has[old].preferred == 0
    assert has[old].valid > 100
    assert await lease(wire) == new


async def test_what_members_of_a_group_are_told_and_where_they_are(site: Site, wire: Wire, server: Dhcp6Server) -> None:
    own = '[[group]]\nname = "voip"\nnumber = 0x5a1e\ndns = ["2001:db8::5a"]\nsearch = ["voip.example"]'
    plan = SERVED.replace('[[group]]\nname = "voip"\nnumber = 0x5a1e', own)
    await site.apply(plan.replace('nodes = ["phone-*"]', f'nodes = ["duid:{OTHER.hex(":")}", "phone-*"]'))
    await pass_time(1)
    everybody = await ask(wire, Kind.REQUEST, requested=(23, 24, 56))
    member = await ask(wire, Kind.REQUEST, requested=(23, 24, 56), client_id=OTHER)
    assert everybody is not None
    assert member is not None
    assert everybody.options.dns == (parse_address("2001:db8::53"),)
    assert everybody.options.search == ()
    assert member.options.dns == (parse_address("2001:db8::5a"),)
    assert member.options.search == ("voip.example",)
    assert na_of(member).addresses[0].address[8:10] == b"\x5a\x1e"
    silent = await ask(wire, Kind.REQUEST, client_id=OTHER)
    assert silent is not None
    assert silent.options.dns == ()  # it did not request it
    named = await ask(wire, Kind.REQUEST, client_id=b"\x00\x04third", fqdn=b"\x00\x07phone-3")
    assert na_of(named).addresses[0].address[8:10] == b"\x5a\x1e"
    asked: dict[str, Any] = {"na": (), "requested": (23,)}
    told = await ask(wire, Kind.INFORMATION_REQUEST, client_id=OTHER, **asked)
    assert told is not None
    assert told.options.dns == (parse_address("2001:db8::5a"),)
    told = await ask(wire, Kind.INFORMATION_REQUEST, client_id=b"", **asked)
    assert told is not None
    assert told.options.dns == (parse_address("2001:db8::53"),)


async def test_where_the_plan_only_observes_another_server_answers(site: Site, wire: Wire, server: Dhcp6Server) -> None:
    observing = SERVED.replace(
        '[[subnet]]\nname = "office"', '[[subnet]]\nname = "office"\npolicy = { mode = "observe" }'
    )
    await site.apply(observing)
    await pass_time(1)
    for kind in (Kind.SOLICIT, Kind.REQUEST):
        assert await ask(wire, kind) is None


async def test_where_none_is_left(site: Site, wire: Wire, server: Dhcp6Server) -> None:
    full = SERVED.replace(
        'range = "2001:db8:1:1::/64"', 'range = "2001:db8:1:1::5-2001:db8:1:1::5"\nstrategy = "sequential"'
    )
    await site.apply(full)
    await pass_time(1)
    assert await lease(wire) == parse_address("2001:db8:1:1::5")
    for kind in (Kind.SOLICIT, Kind.REQUEST, Kind.RENEW):
        assert status_of(na_of(await ask(wire, kind, client_id=OTHER))) == Status.NO_ADDRS_AVAIL


async def test_one_machine_cannot_have_all(wire: Wire, server: Dhcp6Server) -> None:
    given = 0
    for number in range(4 * LEASES_A_NODE + 5):
        await pass_time(1)
        given += await ask(wire, Kind.REQUEST, client_id=b"\x00\x04" + number.to_bytes(4)) is not None
    assert 4 * LEASES_A_NODE <= given <= 4 * LEASES_A_NODE + 4
    assert await ask(wire, Kind.REQUEST, client_id=OTHER, peer=("fe80::8%eth0", 546, 0, 2)) is not None


async def test_where_many_come_from_one_address_it_may_ask_for_as_much_more(
    books: Books, site: Site, wire: Wire
) -> None:
    async with serving(books, wire, at_once=4_000) as server:
        await site.apply(SERVED)
        await pass_time(1)
        for number in range(2_000):
            options = Options(client_id=b"\x00\x04" + number.to_bytes(4), na=(IaNa(iaid=7),), rapid_commit=True)
            wire.say(encode(Message(int(Kind.SOLICIT), b"abc", options)))
            if not number % 100:
                await pass_time(0.1)
        await pass_time(5)
        assert server.answered["solicit"] == 2_000
        assert server.dropped == {}


async def test_one_machine_cannot_fill_the_log(wire: Wire, server: Dhcp6Server, log: FrailLog) -> None:
    before = len(log.records)
    for _ in range(100):
        mine = await ask(wire, Kind.REQUEST)
        if mine is not None:
            await ask(wire, Kind.RELEASE, na_of(mine).addresses[0].address)
    assert server.dropped["busy"]
    assert len(log.records) - before < 100  # of 200 and more that it would like


async def test_two_agents_answer_alike_but_for_the_server_id(
    site: Site, log: FrailLog, wire: Wire, server: Dhcp6Server
) -> None:
    async with AsyncExitStack() as stack:
        books = await stack.enter_async_context(site.agent("a2", journal=MemoryJournal()))
        other = Wire()
        second = await stack.enter_async_context(serving(books, other, duid=OTHER_SERVER))
        asked = Message(int(Kind.SOLICIT), b"abc", Options(client_id=DUID, na=(IaNa(iaid=7),), rapid_commit=True))
        for each in (wire, other):
            each.say(encode(asked))
        await pass_time(1)
        answers = [each.sent.pop()[0] for each in (wire, other)]
        assert [each.options.server_id for each in answers] == [SERVER, OTHER_SERVER]
        assert answers[0].options.na == answers[1].options.na
        assert len([event for event in log.events() if isinstance(event, AddressAllocated)]) == 1
        mine = answers[0].options.na[0].addresses[0].address
        assert na_of(await ask(other, Kind.REBIND, mine)).addresses[0].address == mine
        assert await ask(other, Kind.RENEW, mine) is None  # it names the first
        assert second.dropped["server-id"] == 1
        # What one agent was told, the other knows.
        await ask(wire, Kind.RELEASE, mine)
        status = na_of(await ask(other, Kind.RELEASE, mine, server=OTHER_SERVER)).status
        assert status is not None
        assert status.code == Status.NO_BINDING


async def test_while_the_log_is_away(books: Books, log: FrailLog, wire: Wire, server: Dhcp6Server) -> None:
    mine = await lease(wire)
    log.cut = True
    books.outage.begin("cut off by the test")
    for kind in (Kind.RENEW, Kind.REBIND):
        (kept,) = na_of(await ask(wire, kind, mine)).addresses
        assert (kept.address, kept.valid) == (mine, 200)
    strange = parse_address("2001:db8:1:1::5")
    assert await ask(wire, Kind.RENEW, strange, client_id=OTHER) is None  # the log may know of it
    confirmed = await ask(wire, Kind.CONFIRM, mine)
    assert confirmed is not None
    assert await ask(wire, Kind.CONFIRM, ELSEWHERE) is None
    assert await ask(wire, Kind.RELEASE, mine) is None
    (offered,) = na_of(await ask(wire, Kind.SOLICIT, client_id=OTHER)).addresses
    (given,) = na_of(await ask(wire, Kind.REQUEST, client_id=OTHER)).addresses
    assert given == offered
    assert given.valid <= LIFETIME
    assert await ask(wire, Kind.DECLINE, given.address, client_id=OTHER) is not None
    assert na_of(await ask(wire, Kind.REQUEST, client_id=OTHER)).addresses[0].address != given.address
    with pytest.raises(Unavailable):
        await books.decide(AllocateAddress(client=client_id(DUID), iaid=9, family=6))
    log.cut = False
    await pass_time(10)
    assert not books.outage.active
    assert [event.address for event in log.events() if isinstance(event, OutageGranted)]


async def test_while_the_log_is_away_a_small_pool_gives_nothing_new(
    site: Site, books: Books, log: FrailLog, wire: Wire, server: Dhcp6Server
) -> None:
    await site.apply(SERVED.replace('range = "2001:db8:1:1::/64"', 'range = "2001:db8:1:1::/112"'))
    await pass_time(1)
    mine = await lease(wire)
    log.cut = True
    books.outage.begin("cut off by the test")
    assert na_of(await ask(wire, Kind.RENEW, mine)).addresses[0].address == mine
    for kind in (Kind.SOLICIT, Kind.REQUEST):
        assert status_of(na_of(await ask(wire, kind, client_id=OTHER))) == Status.NO_ADDRS_AVAIL
    log.cut = False


async def test_nothing_that_is_sent_ends_it(wire: Wire, server: Dhcp6Server) -> None:
    """Messages of all kinds that are right, with bytes changed and cut off, from many addresses and through relays."""
    random = Random(1)
    mine = IaNa(iaid=7, addresses=(IaAddress(address=await lease(wire)),))
    for number in range(3_000):
        kind = random.choice(list(Kind))
        options = Options(
            client_id=random.choice([DUID, OTHER, b"\x00\x03\x00\x01" + random.randbytes(6)]),
            server_id=SERVER if kind in NAMED else b"",
            na=random.choice([(), (mine,), (mine, IaNa(iaid=8))]),
            pd=random.choice([(), (), (IaPd(iaid=7),)]),
            requested=(23, 24, 56, 67),
            rapid_commit=random.random() < 0.5,
            fqdn=random.choice([b"", b"\x00\x02pc", random.randbytes(5)]),
        )
        data = bytearray(encode(Message(int(kind), number.to_bytes(3), options)))
        source = f"fe80::{number % 500 + 1:x}%eth0"
        if random.random() < 0.3:
            peer = parse_address(source.partition("%")[0])
            data = bytearray(encode_forward(bytes(data), Relay(link=LINK.network, peer=peer, link_layer=b"\0\1abcdef")))
        for _ in range(random.choice([0, 0, 1, 3])):
            data[random.randrange(len(data))] = random.randrange(256)
        wire.say(
            bytes(data[: random.choice([len(data), len(data), random.randrange(len(data) + 1)])]), (source, 546, 0, 2)
        )
        if not number % 20:
            await pass_time(1)
    await pass_time(5)
    assert sum(server.answered.values()) > 300
    assert server.answered.keys() >= {"solicit", "request", "renew", "rebind", "release", "decline", "confirm"}
    assert await ask(wire, Kind.SOLICIT, peer=("fe80::ffff%eth0", 546, 0, 2)) is not None
