from __future__ import annotations

import asyncio
import random
from typing import get_args

import msgspec
import pytest

from dnms.agents.subnet.books import Books
from dnms.agents.subnet.expiring import EXPIRY_GRACE
from dnms.bus.append import append
from dnms.domain.document import LEVEL
from dnms.events import codec, subjects
from dnms.events.address import AddressExpired, AddressWithdrawn
from dnms.events.codec import UnknownToThisRelease
from dnms.events.commit import Commit
from dnms.events.ip import family, parse_address
from dnms.events.plan import Family, PlanAdopted
from dnms.events.recorded import Event
from dnms.events.requests import MAX_EXPIRIES, AllocateAddress
from tests.unit.agents.conftest import PLAN, SITE, SUBNET, Clock, FrailLog, Node, Site, until
from tests.virtual_time import pass_time

WITHOUT_IPV4 = PLAN[: PLAN.index('[[pool]]\nname = "office-v4"')]


async def append_to_ledger(log: FrailLog, at: int, *events: Event) -> None:
    subject = subjects.ledger(SITE, SUBNET)
    last = max((record.sequence for record in log.records if record.subject == subject), default=0)
    commit = Commit(id=random.randbytes(16), time=at, predecessor=last, actor="agent/other", events=events)
    await append(log, subject, codec.encode(commit), expected=last)


async def test_a_plan_that_an_agent_behind_us_adopted_gives_way_to_the_newest(
    site: Site, books: Books, log: FrailLog, clock: Clock
) -> None:
    adopted = books.ledger.plan
    assert adopted.subnet is not None
    elsewhere = PLAN + '[[subnet]]\nname = "lab"\nprefixes = ["2001:db8:9::/64"]\n'
    await site.apply(elsewhere)  # say that this one touched our subnet, and the next one changed that back
    between = log.records[-1].sequence
    await site.apply(PLAN)
    await until(lambda: books.plan.position > between)
    stale = msgspec.structs.replace(
        adopted, position=between, subnet=msgspec.structs.replace(adopted.subnet, dns=(parse_address("2001:db8::54"),))
    )
    await append_to_ledger(log, clock.now(), PlanAdopted(plan=stale))
    await until(lambda: books.ledger.plan.position > between)
    assert books.ledger.plan.subnet == adopted.subnet


async def test_what_an_agent_left_contradicted_is_withdrawn_by_the_next(
    site: Site, log: FrailLog, clock: Clock
) -> None:
    async with site.agent("a1") as books:
        await Node(books, "web-1").talk()
        adopted = books.ledger.plan
    await site.apply(WITHOUT_IPV4)
    # An agent adopts that, and is killed before it has withdrawn anything.
    smaller = msgspec.structs.replace(adopted, pools=adopted.pools[:1], position=log.records[-1].sequence)
    await append_to_ledger(log, clock.now(), PlanAdopted(plan=smaller))
    async with site.agent("a2") as books:
        await until(lambda: any(isinstance(event, AddressWithdrawn) for event in log.events()))
        await until(lambda: {family(address) for address in books.ledger.leases} == {6})


async def test_a_node_whose_group_changes_with_the_plan_is_told_its_new_address(site: Site, books: Books) -> None:
    node = Node(books, "web-1")
    await node.talk()
    [before] = node.new_connections_from(6)
    books.changed.clear()
    await site.apply(PLAN.replace('"phone-*"', '"web-*"'))
    await until(books.changed.is_set)
    await node.served.push()
    await node.talk()
    [after] = node.new_connections_from(6)
    assert (before[8:10], after[8:10]) == (b"\x00\x00", b"\x5a\x1e")
    assert {before, after} <= node.addresses  # what it is used for goes on, until it is drained
    node.state.tick(3_500)
    assert before in node.addresses
    node.state.tick(3_600)
    assert before not in node.addresses


async def test_a_node_that_renews_in_another_group_moves_too(site: Site, books: Books, clock: Clock) -> None:
    node = Node(books, "web-1")
    await node.talk()
    await site.apply(PLAN.replace('"phone-*"', '"web-*"'))
    await until(lambda: "web-*" in books.plan.groups["voip"].nodes)
    node.pass_time(1_350)
    clock.micros += 1_350 * 1_000_000
    await node.talk()
    [address] = node.new_connections_from(6)
    assert address[8:10] == b"\x5a\x1e"


async def test_an_agent_ends_at_a_level_that_it_does_not_know(site: Site, log: FrailLog, clock: Clock) -> None:
    books = site.books()
    running = asyncio.create_task(books.run())
    await until(lambda: books.ledger.plan.subnet is not None)
    newer = msgspec.structs.replace(books.ledger.plan, level=LEVEL + 1, position=books.plan.position + 1)
    await append_to_ledger(log, clock.now(), PlanAdopted(plan=newer))
    with pytest.RaisesGroup(UnknownToThisRelease):
        async with asyncio.timeout(5):
            await running


async def test_any_number_of_leases_expires_in_one_period(books: Books, log: FrailLog, clock: Clock) -> None:
    number = 2 * MAX_EXPIRIES + 1
    requests = [AllocateAddress(client=each.to_bytes(16), iaid=1, family=6) for each in range(number)]
    await asyncio.gather(*map(books.decide, requests))
    clock.micros += 4 * 3_600 * 1_000_000 + EXPIRY_GRACE
    began = asyncio.get_running_loop().time()
    await until(lambda: not books.ledger.leases)
    assert asyncio.get_running_loop().time() - began < 1.1
    assert sum(isinstance(event, AddressExpired) for event in log.events()) == number


async def test_nothing_expires_until_all_was_renewed_when_the_logs_clock_was_set(
    site: Site, books: Books, log: FrailLog, clock: Clock
) -> None:
    """To the nodes, their leases have not ended: they count by clocks of their own."""
    await site.apply(
        PLAN.replace('"\n[[pool]]', '"\nvalid = 10\npreferred = 5\n[[pool]]') + "valid = 5\npreferred = 5\n"
    )
    await until(lambda: {pool.valid for pool in books.ledger.plan.pools} == {5, 10})
    for kind in get_args(Family):
        await books.decide(AllocateAddress(client=bytes(16), iaid=1, family=kind))
    loop = asyncio.get_running_loop()
    began = loop.time()
    clock.micros += 30 * 86_400 * 1_000_000
    books.suspend_expiry()
    await until(lambda: {family(address) for address in books.ledger.leases} == {6}, seconds=60)
    assert loop.time() - began >= 5  # the longest promise of any pool of the family
    await until(lambda: not books.ledger.leases, seconds=60)
    assert loop.time() - began >= 40
    assert sum(isinstance(event, AddressExpired) for event in log.events()) == 2


async def test_an_agent_that_comes_back_lets_nothing_expire_that_it_cannot_tell_the_end_of(
    site: Site, log: FrailLog, clock: Clock
) -> None:
    """While it was away somebody may have set the log's clock, and nothing tells that from time that has passed."""
    await site.apply(PLAN)
    async with site.agent("a1") as books:
        await books.decide(AllocateAddress(client=bytes(16), iaid=1, family=6))
    clock.micros += 30 * 86_400 * 1_000_000
    async with site.agent("a1") as books:
        await pass_time(4 * 3_600 - 1)  # the longest promise
        assert books.ledger.leases
        await until(lambda: not books.ledger.leases)
