"""A Subnet Agent with a journal while the log is away: what it gives by itself, and what becomes of that afterwards."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import TypeVar

import pytest

from dnms.agents.subnet import agent as shell
from dnms.agents.subnet import outage as module
from dnms.agents.subnet.books import Books
from dnms.bus.append import PATIENCE
from dnms.bus.clock import LogClock
from dnms.bus.port import Unanswered, Unavailable
from dnms.domain.outage import LIFETIME, OUTAGE
from dnms.events import codec
from dnms.events.address import AddressAllocated, AddressDeclined, AddressExpired, OutageGranted
from dnms.events.ip import family
from dnms.events.node import NodeIdentified
from dnms.events.recorded import Event
from dnms.events.requests import AllocateAddress, MergeOutage
from dnms.events.seen import ConfigurationRegistered, OutageEnded, SessionClosed, SessionOpened
from dnms.kit.clock import MICROSECONDS
from dnms.wire.channel import Closed
from dnms.wire.messages import PrefixAssociation
from dnms.wire.node_events import Assigned, Refused
from tests.unit.agents.conftest import PLAN, Clock, FrailLog, MemoryJournal, Node, OtherWay, Site, until
from tests.virtual_time import pass_time

E = TypeVar("E", bound=Event)
STRICT = PLAN.replace('name = "office"\n', 'name = "office"\nstrict = true\n')
DELEGATING = f"""{PLAN}
[[delegation]]
name = "blocks"
subnet = "office"
prefix = "2001:db8:2::/56"
length = 60
"""
STRICT_SITE = PLAN.replace('name = "s"\n', 'name = "s"\nstrict = true\n')


@pytest.fixture
def journal() -> MemoryJournal:
    return MemoryJournal()


@pytest.fixture
async def way(log: FrailLog, clock: Clock) -> OtherWay:
    return OtherWay(log, clock)


@pytest.fixture
async def books(site: Site, way: OtherWay, journal: MemoryJournal) -> AsyncIterator[Books]:
    """Those of the agent that is cut off."""
    async with site.agent("a1", journal=journal, log=way) as books:
        yield books


@pytest.fixture
async def others(site: Site) -> AsyncIterator[Books]:
    """Those of an agent that is not."""
    async with site.agent("a2", journal=MemoryJournal()) as books:
        yield books


@pytest.fixture
def any_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ranges so small that hashes collide give in an outage too."""
    monkeypatch.setattr("dnms.domain.outage.SMALLEST", 1)


def cut(way: FrailLog, books: Books) -> None:
    way.cut = True
    books.outage.begin("cut off by the test")
    assert books.outage.active


async def heal(way: FrailLog, books: Books) -> None:
    way.cut = False
    await until(lambda: not books.outage.active, seconds=60)
    await pass_time(0.1)


async def pushed(*nodes: Node) -> None:
    for node in nodes:
        due = node.books.take_due()
        if due is None or node.client in due:
            await node.served.push()
        await node.talk()


def happened(log: FrailLog, kind: type[E], node: Node) -> list[E]:
    return [event for event in log.events() if isinstance(event, kind) and getattr(event, "client", b"") == node.client]


def assigned(node: Node) -> Assigned:
    return [event for event in node.heard if isinstance(event, Assigned)][-1]


def valid(node: Node, address: bytes) -> int:
    return next(each.valid for each in assigned(node).assignment.addresses if each.address == address)


async def test_a_node_that_comes_gets_ipv6_by_the_journal_and_the_rest_when_the_log_is_back(
    books: Books, way: OtherWay, log: FrailLog, journal: MemoryJournal
) -> None:
    cut(way, books)
    node = Node(books, "web-1")
    await node.talk()
    assert node.session.welcome is not None
    assert node.session.welcome.outage
    (address,) = node.addresses
    assert (family(address), valid(node, address) <= LIFETIME) == (6, True)
    assert (assigned(node).refused, assigned(node).outage) == ({"4": OUTAGE}, True)
    assert [each.address for each in journal.entries] == [address]
    assert not happened(log, AddressAllocated, node)
    await heal(way, books)
    assert not journal.entries
    (granted,) = happened(log, OutageGranted, node)
    assert (granted.address, granted.contested) == (address, False)
    assert len(happened(log, NodeIdentified, node)) == 1
    await pushed(node)
    assert {family(each) for each in node.addresses} == {4, 6}
    assert address in node.addresses
    assert valid(node, address) == 3_600
    assert not assigned(node).outage
    await books.settled()
    assert len(happened(log, SessionOpened, node)) == len(happened(log, ConfigurationRegistered, node)) == 1


async def test_it_is_what_the_log_would_have_given(books: Books, others: Books, way: OtherWay) -> None:
    cut(way, books)
    one, two = Node(books, "phone-1"), Node(others, "phone-1")
    await one.talk()
    await two.talk()
    assert one.addresses <= two.addresses


async def test_a_failed_commit_is_the_begin_and_who_waits_for_it_is_served(books: Books, way: OtherWay) -> None:
    way.cut = True
    node = Node(books, "web-1")
    began = asyncio.get_running_loop().time()
    await node.talk()
    assert books.outage.active
    assert asyncio.get_running_loop().time() - began <= PATIENCE + 1
    assert {family(each) for each in node.addresses} == {6}


async def test_who_waits_is_let_go_when_the_log_does_not_tell_its_time(books: Books, way: OtherWay) -> None:
    way.cut = True
    node = Node(books, "web-1")
    talking = asyncio.create_task(node.talk())
    await until(books.outage.doubted.is_set)
    books.outage.begin("no answer")
    async with asyncio.timeout(1):
        await talking
    assert {family(each) for each in node.addresses} == {6}


async def test_a_node_renews_up_to_the_promise_of_the_log_and_never_past_it(
    books: Books, way: OtherWay, clock: Clock, log: FrailLog
) -> None:
    node = Node(books, "web-1")
    await node.talk()
    had = node.addresses
    horizons = {address: books.ledger.leases[address].horizon for address in had}
    cut(way, books)
    seen = len(node.heard)
    for _ in range(90):
        node.pass_time(45)
        clock.micros += 45 * MICROSECONDS
        await node.talk()
        for event in node.heard[seen:]:
            assert not isinstance(event, Refused) or event.code == OUTAGE
            for each in event.assignment.addresses if isinstance(event, Assigned) else ():
                assert 1 <= each.valid <= (horizons[each.address] - clock.micros) // MICROSECONDS + 1
        seen = len(node.heard)
    assert node.addresses < had, "of IPv4 one lifetime is promised"
    assert {family(each) for each in node.addresses} == {6}


async def test_what_it_gave_itself_it_prolongs_by_the_journal(
    books: Books, way: OtherWay, clock: Clock, journal: MemoryJournal
) -> None:
    cut(way, books)
    node = Node(books, "web-1")
    await node.talk()
    (address,) = node.addresses
    (before,) = journal.entries
    node.pass_time(300)
    clock.micros += 300 * MICROSECONDS
    await node.talk()
    (after,) = journal.entries
    assert (after.address, after.happened) == (address, before.happened)
    assert 299 <= (after.valid_until - before.valid_until) / MICROSECONDS <= 301
    assert valid(node, address) >= LIFETIME - 1


async def test_nothing_is_denied_that_the_log_may_know_of(books: Books, others: Books, way: OtherWay) -> None:
    node = Node(others, "web-1")
    cut(way, books)
    await node.talk()
    had = node.addresses
    elsewhere = Node(books, "web-1", state=node.state)
    await elsewhere.talk()
    assert elsewhere.addresses == had
    refusals = [event for event in elsewhere.heard if isinstance(event, Refused)]
    assert [event.code for event in refusals] == [OUTAGE]
    assert not [event for event in elsewhere.heard if isinstance(event, Assigned | Closed)]


async def test_who_comes_with_nothing_is_not_told_an_ipv4_address_that_it_had(
    books: Books, others: Books, way: OtherWay, journal: MemoryJournal
) -> None:
    """It may have given that back to an agent that the log hears, and another one may have it."""
    first = Node(books, "web-1")
    await first.talk()
    had = {family(each): each for each in first.addresses}
    cut(way, books)
    again = Node(books, "web-1")
    await again.talk()
    assert again.addresses == {had[6]}
    assert [each.address for each in journal.entries] == [had[6]]


async def test_an_address_that_is_a_duplicate_is_followed_by_the_next(
    books: Books, way: OtherWay, journal: MemoryJournal, log: FrailLog
) -> None:
    cut(way, books)
    first = Node(books, "web-1")
    await first.talk()
    (taken,) = first.addresses
    first.session.leave(0.0)
    await first.talk()
    node = Node(books, "web-1")
    node.taken = {taken}
    await node.talk()
    (address,) = node.addresses
    assert address != taken
    assert {each.address for each in journal.entries} == {address, taken}
    await heal(way, books)
    assert [event.address for event in happened(log, OutageGranted, node)] == [address, taken]
    assert not happened(log, AddressDeclined, node)
    await pushed(node)
    assert [each for each in node.addresses if family(each) == 6] == [address]


async def test_two_nodes_with_one_address_are_told_apart_and_the_one_in_the_log_keeps_it(
    site: Site, books: Books, others: Books, way: OtherWay, any_size: None
) -> None:
    log, clock = site.log, site.clock
    await site.apply(PLAN.replace('2001:db8:1:1::/64"\n[[pool]]', '2001:db8:1:1::10-2001:db8:1:1::10"\n[[pool]]'))
    await until(lambda: all(each.ledger.plan.pools[0].first[15] == 0x10 for each in (books, others)))
    cut(way, books)
    granted, given = Node(books, "web-1"), Node(others, "web-2")
    await granted.talk()
    clock.micros += 7 * MICROSECONDS
    await given.talk()
    (address,) = granted.addresses
    assert address in given.addresses, "a range of one address collides"
    # There is another one by now, so that it can be moved.
    await site.apply(PLAN.replace('2001:db8:1:1::/64"\n[[pool]]', '2001:db8:1:1::10-2001:db8:1:1::11"\n[[pool]]'))
    await until(lambda: others.ledger.plan.pools[0].last[15] == 0x11)
    await heal(way, books)
    (event,) = happened(log, OutageGranted, granted)
    assert event.contested
    assert books.ledger.leases[address].client == given.client
    await pushed(granted)
    assert address not in granted.addresses
    assert {family(each) for each in granted.addresses} == {4, 6}
    both = next(r for r in log.records if event in codec.decode(r.data).events)
    assert both.stored_at - event.happened >= 7 * MICROSECONDS


async def test_a_full_disk_gives_nothing(books: Books, way: OtherWay, journal: MemoryJournal) -> None:
    cut(way, books)
    journal.full = True
    node = Node(books, "web-1")
    await node.talk()
    assert not node.addresses
    assert [event.code for event in node.heard if isinstance(event, Refused)] == [OUTAGE]
    journal.full = False
    node.pass_time(10)
    await node.talk()
    assert {family(each) for each in node.addresses} == {6}


async def test_a_journal_of_a_process_that_was_killed_is_merged_first(
    site: Site, way: OtherWay, log: FrailLog, journal: MemoryJournal
) -> None:
    async with site.agent("a1", journal=journal, log=way) as books:
        cut(way, books)
        node = Node(books, "web-1")
        await node.talk()
    (entry,) = journal.entries
    way.cut = False
    async with site.agent("a1", journal=journal, log=way) as books:
        await until(lambda: not journal.entries)
        assert [event.address for event in happened(log, OutageGranted, node)] == [entry.address]
        again = Node(books, "web-1", state=node.state)
        await again.talk()
        assert entry.address in again.addresses


async def test_merging_goes_on_where_it_was_cut_short_and_twice_changes_nothing(
    site: Site, way: OtherWay, log: FrailLog, journal: MemoryJournal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MERGED_AT_ONCE", 2)
    async with site.agent("a1", journal=journal, log=way) as books:
        cut(way, books)
        nodes = [Node(books, f"web-{number}") for number in range(5)]
        for node in nodes:
            await node.talk()
        submit = books.outage._committer.submit
        left = 3

        async def dies(request: MergeOutage) -> tuple[Event, ...]:
            nonlocal left
            left -= 1
            if left == 0:
                await submit(request)
                raise Unanswered("stored, and nobody says so")
            if left < 0:
                raise Unavailable("gone again")
            return await submit(request)

        monkeypatch.setattr(books.outage._committer, "submit", dies)
        way.cut = False
        await until(lambda: left < 0)
        await pass_time(0.1)
        assert books.outage.active
    assert len(journal.entries) == 3
    before = {event.address for event in log.events() if isinstance(event, OutageGranted)}
    assert len(before) == 3
    async with site.agent("a1", journal=journal, log=way) as books:
        await until(lambda: not journal.entries, seconds=60)
        granted = [event for event in log.events() if isinstance(event, OutageGranted)]
        assert (len(granted), len({event.address for event in granted})) == (6, 5)
        assert not any(event.contested for event in granted)
        assert {lease.client for lease in books.ledger.leases.values()} == {node.client for node in nodes}


async def test_who_came_and_went_in_an_outage_is_recorded(books: Books, way: OtherWay, log: FrailLog) -> None:
    cut(way, books)
    node = Node(books, "web-1")
    await node.talk()
    node.session.leave(0.0)
    await node.talk()
    await heal(way, books)
    await books.settled()
    assert len(happened(log, NodeIdentified, node)) == 1
    sessions = [type(e) for e in log.events() if isinstance(e, SessionOpened | SessionClosed)]
    assert sessions == [SessionOpened, SessionClosed]


@pytest.mark.parametrize("plan", [STRICT, STRICT_SITE], ids=["subnet", "site"])
async def test_on_a_strict_subnet_nothing_is_given(
    site: Site, books: Books, way: OtherWay, journal: MemoryJournal, plan: str
) -> None:
    await site.apply(plan)
    await until(lambda: books.ledger.plan.subnet is not None and books.ledger.plan.subnet.strict)
    way.cut = True
    books.outage.begin("cut off by the test")
    assert not books.outage.active
    node = Node(books, "web-1")
    await node.talk()
    assert [event.said for event in node.heard if isinstance(event, Closed)] == [OUTAGE]
    assert not journal.entries


async def test_a_journal_has_an_end(books: Books, way: OtherWay, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_GRANTED", 1)
    cut(way, books)
    one, two = Node(books, "web-1"), Node(books, "web-2")
    await one.talk()
    await two.talk()
    assert (len(one.addresses), len(two.addresses)) == (1, 0)


async def test_all_who_ask_at_once_get_addresses_of_their_own(books: Books, way: OtherWay) -> None:
    cut(way, books)
    requests = [AllocateAddress(client=each.to_bytes(16), iaid=1, family=6) for each in range(200)]
    given = await asyncio.gather(*map(books.outage.grant, requests))
    assert len(set(given)) == 200
    await heal(way, books)
    assert set(books.ledger.leases) == set(given)


async def test_a_log_that_does_not_tell_its_time_is_away(books: Books, way: OtherWay) -> None:
    class Silent:
        async def clock(self) -> int:
            raise Unavailable("no answer")

    keeping = asyncio.create_task(shell._keep_time(LogClock(Silent()), books))
    try:
        way.cut = True
        books.outage.doubted.set()
        await until(lambda: books.outage.active, seconds=1)
    finally:
        keeping.cancel()
        await asyncio.wait((keeping,))


async def test_a_log_that_can_be_read_and_not_stored_to_is_away_until_it_stores(
    books: Books, way: OtherWay, log: FrailLog
) -> None:
    """Its disk is full, for one. Nothing waits to be stored, and the agent must not come back and go again."""
    began: list[float] = []
    begin = books.outage._enter

    def noted() -> None:
        began.append(asyncio.get_running_loop().time())
        begin()

    books.outage._enter = noted  # type: ignore[method-assign]
    node = Node(books, "web-1")
    await node.talk()
    way.full = True
    with pytest.raises(Unavailable):
        await books.decide(AllocateAddress(client=node.client, iaid=2, family=6))
    assert books.outage.active
    for _ in range(600):
        await pass_time(1)
        assert books.outage.active
    assert len(began) == 1
    assert not [event for event in log.events() if isinstance(event, OutageEnded)]
    way.full = False
    await until(lambda: not books.outage.active, seconds=30)
    (ended,) = [event for event in log.events() if isinstance(event, OutageEnded)]
    assert ended.began == books.outage.began


async def test_an_outage_in_which_nothing_was_given_is_in_the_log_too(
    books: Books, way: OtherWay, log: FrailLog
) -> None:
    cut(way, books)
    await pass_time(60)
    await heal(way, books)
    assert len([event for event in log.events() if isinstance(event, OutageEnded)]) == 1


async def test_what_another_agent_prolongs_does_not_expire_before_that_one_is_back(
    site: Site, books: Books, way: OtherWay, log: FrailLog, clock: Clock
) -> None:
    """Both were cut off for longer than the log's promise, and one is back a moment before the other."""
    other_way = OtherWay(log, clock)
    async with site.agent("a2", journal=MemoryJournal(), log=other_way) as others:
        await Node(books, "web-1").talk()
        promised = {lease.address: lease.horizon for lease in others.ledger.leases.values()}
        cut(way, books)
        cut(other_way, others)
        seconds = (max(promised.values()) - clock.micros) // MICROSECONDS
        await pass_time(seconds - 1)
        clock.micros += (seconds - 1) * MICROSECONDS
        again = Node(books, "web-1")
        await again.talk()
        [kept] = again.addresses
        assert family(kept) == 6
        await pass_time(120)
        clock.micros += 120 * MICROSECONDS
        await heal(other_way, others)
        await pass_time(5)
        assert kept not in {event.address for event in log.events() if isinstance(event, AddressExpired)}
        await heal(way, books)
        await until(lambda: others.position == books.position)
        assert others.ledger.leases[kept].horizon > clock.micros


async def test_a_prefix_that_was_given_back_to_another_agent_is_not_told_by_one_that_cannot_know(
    site: Site, books: Books, others: Books, way: OtherWay
) -> None:
    await site.apply(DELEGATING)
    await until(lambda: bool(books.ledger.plan.delegations) and bool(others.ledger.plan.delegations))
    node = Node(others, "laptop", prefixes=(PrefixAssociation(iaid=1),))
    await node.talk()
    await until(lambda: bool(books.ledger.delegations.of(node.client, 1)))
    cut(way, books)
    stays = Node(books, "laptop", prefixes=(PrefixAssociation(iaid=1),), state=node.state)
    await stays.talk()
    assert len(assigned(stays).assignment.prefixes) == 1  # what it has it keeps
    node.session.release(node.now)
    await node.talk()
    again = Node(books, "laptop", prefixes=(PrefixAssociation(iaid=1),))
    await again.talk()
    await again.served.extend()
    await again.talk()
    assert assigned(again).assignment.prefixes == ()
    await heal(way, books)
    await pushed(again)
    assert len(assigned(again).assignment.prefixes) == 1
