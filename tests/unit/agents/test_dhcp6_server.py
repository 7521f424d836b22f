"""An agent's DHCPv6 server on a log in memory: our own client, and messages that it would not send."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from random import Random
from typing import Any

import pytest

from dnms.agents.subnet.books import Books
from dnms.agents.subnet.dhcp6_server import BURST, Dhcp6Server
from dnms.agents.subnet.newcomers import LEASES_A_NODE
from dnms.events.ip import Prefix, parse_address, parse_prefix
from dnms.events.prefix import PrefixDelegated, PrefixReleased, PrefixRenewed
from dnms.events.requests import ReportUplink, UplinkPrefix
from dnms.events.uplink import Source
from dnms.linux.multicast import Peer
from dnms.wire.dhcp6.associations import IaPd, IaPrefix
from dnms.wire.dhcp6.client import Client
from dnms.wire.dhcp6.codes import Kind, Option, Status
from dnms.wire.dhcp6.exchanges import Exchange
from dnms.wire.dhcp6.messages import Message, Relay, encode, encode_forward
from dnms.wire.dhcp6.options import Options
from tests.unit.agents.conftest import PLAN, Clock, FrailLog, MemoryJournal, Site, client_id
from tests.unit.agents.dhcp6_wire import PEER, SERVER, Wire, books, serving, wire
from tests.virtual_time import pass_time

__all__ = ["books", "wire"]

DUID, OTHER = b"\x00\x04client", b"\x00\x04other"
WHOLE, ELSEWHERE = parse_prefix("2001:db8:f000::/48"), parse_prefix("2001:db8:eeee::/56")
DELEGATING = f"""{PLAN}
[[delegation]]
name = "blocks"
subnet = "office"
prefix = "2001:db8:f000::/48"
length = 56
longest = 62
preferred = 100
valid = 200
"""


@pytest.fixture
async def server(books: Books, site: Site, wire: Wire) -> AsyncIterator[Dhcp6Server]:
    async with serving(books, wire, at_once=2) as server:
        await site.apply(DELEGATING)
        await pass_time(1)
        yield server


async def ask(
    wire: Wire, kind: Kind, *prefixes: Prefix, peer: Peer = PEER, iaid: int = 7, **said: Any
) -> Message | None:
    """What is answered to one message; None: nothing is."""
    named = {"server_id": SERVER} if kind in (Kind.REQUEST, Kind.RENEW, Kind.RELEASE) else {}
    pd = IaPd(iaid=iaid, prefixes=tuple(IaPrefix(prefix=each) for each in prefixes))
    options = Options(**{"client_id": DUID, "pd": (pd,), **named, **said})
    transaction = len(wire.sent).to_bytes(3)
    wire.sent.clear()
    wire.say(encode(Message(int(kind), transaction, options)), peer)
    await pass_time(1)
    if not wire.sent:
        return None
    ((answer, to),) = wire.sent
    assert to == peer
    assert answer.transaction == transaction
    return answer


def pd_of(answer: Message | None) -> IaPd:
    assert answer is not None
    (pd,) = answer.options.pd
    return pd


async def block(wire: Wire, **said: Any) -> IaPrefix:
    """One that is requested."""
    (given,) = pd_of(await ask(wire, Kind.REQUEST, **said)).prefixes
    return given


async def test_a_client_has_a_prefix_for_as_long_as_it_likes(
    log: FrailLog, clock: Clock, books: Books, wire: Wire, server: Dhcp6Server
) -> None:
    loop = asyncio.get_running_loop()
    client = Client(duid=DUID, iaid=7, chance=Random(1), now=loop.time(), length=60)
    answered: list[Kind] = []

    async def live(seconds: float) -> None:
        end = loop.time() + seconds
        while loop.time() < end:
            for data in client.to_send(loop.time()):
                wire.say(data)
            before = loop.time()
            await pass_time(0.01)
            for message, _ in wire.sent:
                answered.append(Kind(message.kind))
                client.receive(encode(message), loop.time())
            wire.sent.clear()
            await pass_time(max(0.0, min(client.deadline(), end) - loop.time()))
            clock.micros += round((loop.time() - before) * 1_000_000)

    await live(5)
    assert client.exchange == Exchange.BOUND
    (held,) = client.held
    assert held.prefix.length == 60
    assert WHOLE.covers(held.prefix)
    (given,) = [event for event in log.events() if isinstance(event, PrefixDelegated)]
    assert (given.prefix, given.client, given.next_hop) == (held.prefix, client_id(DUID), parse_address("fe80::7"))
    assert given.interface == "net"
    await live(3_000)
    assert [each.prefix for each in client.held] == [held.prefix]
    renewals = [event for event in log.events() if isinstance(event, PrefixRenewed)]
    assert 2 <= len(renewals) <= 6  # the horizon is four lifetimes: of 60 renewals few are written
    assert server.answered["renew"] > 50
    client.release(loop.time())
    await live(2)
    assert str(client.exchange) == Exchange.ENDED
    assert [event.prefix for event in log.events() if isinstance(event, PrefixReleased)] == [held.prefix]
    assert server.dropped == {}


async def test_an_offer_is_what_is_given_then_and_nothing_is_given_before(
    log: FrailLog, wire: Wire, server: Dhcp6Server
) -> None:
    before = len(log.records)
    offer = await ask(wire, Kind.SOLICIT)
    assert offer is not None
    assert offer.kind == Kind.ADVERTISE
    (offered,) = pd_of(offer).prefixes
    assert (offered.preferred, offered.valid) == (100, 200)
    assert (pd_of(offer).t1, pd_of(offer).t2) == (50, 80)
    assert len(log.records) == before
    assert await block(wire) == offered


async def test_two_clients_and_two_associations_have_each_their_own(wire: Wire, server: Dhcp6Server) -> None:
    blocks = {
        (await block(wire)).prefix,
        (await block(wire, iaid=8)).prefix,
        (await block(wire, client_id=OTHER)).prefix,
    }
    assert len(blocks) == 3


async def test_rapid_commit(log: FrailLog, wire: Wire, server: Dhcp6Server) -> None:
    reply = await ask(wire, Kind.SOLICIT, rapid_commit=True)
    assert reply is not None
    assert (reply.kind, reply.options.rapid_commit) == (Kind.REPLY, True)
    (given,) = [event for event in log.events() if isinstance(event, PrefixDelegated)]
    assert [each.prefix for each in pd_of(reply).prefixes] == [given.prefix]


async def test_where_none_is_left(site: Site, wire: Wire, server: Dhcp6Server) -> None:
    await site.apply(DELEGATING.replace("/48", "/56"))
    await pass_time(1)
    await block(wire)
    for kind in (Kind.SOLICIT, Kind.REQUEST):
        status = pd_of(await ask(wire, kind, client_id=OTHER)).status
        assert status is not None
        assert status.code == Status.NO_PREFIX_AVAIL


async def test_what_a_client_does_not_have_is_ended_and_replaced(wire: Wire, server: Dhcp6Server) -> None:
    mine = (await block(wire)).prefix
    for kind in (Kind.RENEW, Kind.REBIND):
        given = {each.prefix: each.valid for each in pd_of(await ask(wire, kind, ELSEWHERE, mine)).prefixes}
        assert given == {mine: 200, ELSEWHERE: 0}
    anew = pd_of(await ask(wire, Kind.RENEW, ELSEWHERE, client_id=OTHER)).prefixes
    assert [each.valid for each in anew] == [200, 0]


async def test_who_rebinds_what_another_server_gave_is_not_answered(wire: Wire, server: Dhcp6Server) -> None:
    assert await ask(wire, Kind.REBIND, ELSEWHERE) is None
    assert server.dropped["silent"] == 1
    mine = parse_prefix("2001:db8:f000:aa00::/56")  # it may have been given here, by a ledger that is no more
    assert {each.prefix for each in pd_of(await ask(wire, Kind.REBIND, mine)).prefixes} > {mine}


async def test_a_release_of_what_is_not_held(wire: Wire, server: Dhcp6Server) -> None:
    mine = (await block(wire)).prefix
    status = pd_of(await ask(wire, Kind.RELEASE, mine, client_id=OTHER)).status
    assert status is not None
    assert status.code == Status.NO_BINDING
    released = await ask(wire, Kind.RELEASE, mine)
    assert released is not None
    assert released.options.pd == ()
    assert pd_of(await ask(wire, Kind.RELEASE, mine)).status is not None


async def test_only_who_understands_it_gets_a_block_with_an_excluded_prefix(
    site: Site, wire: Wire, server: Dhcp6Server
) -> None:
    plan = DELEGATING.replace("2001:db8:f000::/48", "2001:db8:1:0::/56").replace("longest", "exclude = true\nlongest")
    await site.apply(plan)
    await pass_time(1)
    status = pd_of(await ask(wire, Kind.REQUEST)).status
    assert status is not None
    assert status.code == Status.NO_PREFIX_AVAIL
    given = await block(wire, client_id=OTHER, requested=(int(Option.PD_EXCLUDE),))
    assert (given.prefix, given.exclude) == (parse_prefix("2001:db8:1::/56"), parse_prefix("2001:db8:1:1::/64"))


async def test_while_the_log_is_away_what_is_held_is_kept_and_nothing_is_denied(
    books: Books, log: FrailLog, wire: Wire, server: Dhcp6Server
) -> None:
    mine = await block(wire)
    log.cut = True
    books.outage.begin("cut off by the test")
    assert books.outage.active
    renewed = pd_of(await ask(wire, Kind.RENEW, mine.prefix)).prefixes
    assert [(each.prefix, each.valid) for each in renewed] == [(mine.prefix, 200)]
    assert await ask(wire, Kind.RENEW, ELSEWHERE, client_id=OTHER) is None
    status = pd_of(await ask(wire, Kind.SOLICIT, client_id=OTHER)).status
    assert status is not None
    assert status.code == Status.NO_PREFIX_AVAIL
    log.cut = False


async def test_one_machine_cannot_have_all(wire: Wire, server: Dhcp6Server) -> None:
    given = 0
    for number in range(2 * LEASES_A_NODE + 5):
        await pass_time(1)
        given += await ask(wire, Kind.REQUEST, client_id=b"\x00\x04" + number.to_bytes(4)) is not None
    assert 2 * LEASES_A_NODE <= given <= 2 * LEASES_A_NODE + 1  # one more in the seconds that have passed
    assert server.dropped["busy"] == 2 * LEASES_A_NODE + 5 - given
    assert await ask(wire, Kind.REQUEST, client_id=OTHER, peer=("fe80::8%eth0", 546, 0, 2)) is not None


async def test_who_asks_without_a_pause_is_not_heard_and_the_others_are(wire: Wire, server: Dhcp6Server) -> None:
    solicit = Message(int(Kind.SOLICIT), b"abc", Options(client_id=DUID, pd=(IaPd(iaid=7),)))
    for _ in range(10 * int(BURST)):
        wire.say(encode(solicit))
    await pass_time(0.1)
    assert len(wire.sent) == 1  # the same message again while it is being answered
    assert server.dropped["repeated"] == int(BURST) - 1
    assert server.dropped["peer-rate"] == 9 * int(BURST)
    assert await ask(wire, Kind.SOLICIT, peer=("fe80::8%eth0", 546, 0, 2)) is not None


async def test_what_is_not_for_it(wire: Wire, server: Dhcp6Server) -> None:
    solicit = encode(Message(int(Kind.SOLICIT), b"abc", Options(client_id=DUID, pd=(IaPd(iaid=7),))))
    wire.say(solicit, ("2001:db8::7", 546, 0, 2))
    wire.say(encode_forward(solicit, Relay()))
    wire.say(b"")
    wire.say(solicit[:-1])
    assert await ask(wire, Kind.REQUEST, server_id=OTHER) is None
    assert await ask(wire, Kind.SOLICIT, pd=()) is None
    assert wire.sent == []
    assert server.dropped == {"direction": 2, "malformed": 2, "server-id": 1, "unexpected": 1}


async def test_information_alone(wire: Wire, server: Dhcp6Server) -> None:
    reply = await ask(wire, Kind.INFORMATION_REQUEST, pd=(), client_id=b"", requested=(23,))
    assert reply is not None
    assert reply.options.dns == (parse_address("2001:db8::53"),)


async def test_two_agents_answer_alike_and_give_one_prefix(
    site: Site, log: FrailLog, wire: Wire, server: Dhcp6Server
) -> None:
    async with AsyncExitStack() as stack:
        books = await stack.enter_async_context(site.agent("a2", journal=MemoryJournal()))
        other = Wire()
        second = await stack.enter_async_context(serving(books, other, duid=OTHER))
        asked = Message(int(Kind.SOLICIT), b"abc", Options(client_id=DUID, pd=(IaPd(iaid=7),), rapid_commit=True))
        for each in (wire, other):
            each.say(encode(asked))
        await pass_time(1)
        answers = [each.sent.pop()[0] for each in (wire, other)]
        assert answers[0].options.pd == answers[1].options.pd
        assert [each.options.server_id for each in answers] == [SERVER, OTHER]
        (given,) = answers[0].options.pd[0].prefixes
        assert len([event for event in log.events() if isinstance(event, PrefixDelegated)]) == 1
        for each in (wire, other):
            rebound = pd_of(await ask(each, Kind.REBIND, given.prefix)).prefixes
            assert [(p.prefix, p.valid) for p in rebound] == [(given.prefix, 200)]
        assert await ask(other, Kind.RENEW, given.prefix) is None  # it names the first
        assert second.dropped["server-id"] == 1


async def test_a_prefix_above_that_changes_gives_its_clients_another_and_time_to_leave_the_old_one(
    site: Site, clock: Clock, books: Books, wire: Wire, server: Dhcp6Server
) -> None:
    uplink = '[[uplink]]\nname = "wan"\nprotocol = "dhcpv6"\n[[subnet]]\nname = "office"\nuplink = "wan"'
    await site.apply(
        DELEGATING.replace('[[subnet]]\nname = "office"', uplink).replace('prefix = "2001:db8:f000::/48"\n', "")
    )
    await pass_time(1)

    async def has_above(*prefixes: tuple[Prefix, int]) -> None:
        several = tuple(
            UplinkPrefix(
                prefix=prefix,
                preferred_until=clock.now() + preferred * 1_000_000,
                valid_until=clock.now() + 150 * 1_000_000,
            )
            for prefix, preferred in prefixes
        )
        await books.decide(ReportUplink(uplink="wan", prefixes=several, source=Source(name="dhcpv6 00:01")))

    status = pd_of(await ask(wire, Kind.SOLICIT)).status
    assert status is not None
    assert status.code == Status.NO_PREFIX_AVAIL  # nothing has come from above
    old, new = parse_prefix("2001:db8:a000::/48"), parse_prefix("2001:db8:b000::/48")
    await has_above((old, 60))
    before = await block(wire)
    assert old.covers(before.prefix)
    assert (before.preferred, before.valid) in {(59, 149), (60, 150)}  # no longer than above
    await has_above((new, 60), (old, 0))
    first, second = pd_of(await ask(wire, Kind.RENEW, before.prefix)).prefixes
    assert new.covers(first.prefix)
    assert first.preferred
    assert (second.prefix, second.preferred) == (before.prefix, 0)
    assert second.valid > 100


async def test_who_says_to_be_a_node_with_a_session_is_not_heard(books: Books, site: Site, wire: Wire) -> None:
    sessions: set[bytes] = set()
    async with serving(books, wire, has_session=sessions.__contains__) as server:
        await site.apply(DELEGATING)
        await pass_time(1)
        assert await ask(wire, Kind.REQUEST) is not None
        [before] = books.ledger.delegations.all.values()
        sessions.add(client_id(DUID))
        for kind in (Kind.RENEW, Kind.REBIND, Kind.RELEASE, Kind.REQUEST, Kind.SOLICIT):
            assert await ask(wire, kind, before.prefix, peer=("fe80::bad%net", *PEER[1:])) is None
        assert list(books.ledger.delegations.all.values()) == [before]
        assert server.dropped["client-id"] == 5
