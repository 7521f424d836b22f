from __future__ import annotations

import pytest

from dnms.agents.subnet.books import ABANDONED, Books
from dnms.agents.subnet.budget import DECISIONS_AT_ONCE, OBSERVATIONS_AT_ONCE
from dnms.bus.port import Unavailable
from dnms.domain.adopted import Adopted
from dnms.events import codec
from dnms.events.address import (
    AddressAllocated,
    AddressBlocked,
    AddressDeclined,
    AddressExpired,
    AddressReleased,
    AddressRenewed,
    AddressWithdrawn,
)
from dnms.events.configuration import Assignment, InterfaceAddress, Snapshot
from dnms.events.ip import family, parse_address
from dnms.events.node import NodeArrived, NodeIdentified
from dnms.events.plan import AdoptedPlan, PlanAdopted
from dnms.events.requests import IdentifyNode, ReleaseAddress
from dnms.events.seen import (
    ConfigurationApplied,
    ConfigurationChanged,
    ConfigurationRegistered,
    SessionClosed,
    SessionOpened,
)
from dnms.wire import agent_events
from dnms.wire.messages import MAX_ASSOCIATIONS, Association, Binding
from dnms.wire.node_events import Assigned, Refused
from tests.unit.agents.conftest import PLAN, Clock, FrailLog, Node, Site, until
from tests.virtual_time import pass_time

HOUR = 3_600


async def test_a_node_joins_and_the_log_has_all_of_it(books: Books, log: FrailLog) -> None:
    node = Node(books, "web-1")
    await node.talk()
    assert {family(address) for address in node.addresses} == {4, 6}
    happened = [type(event) for event in log.events()]
    for kind in (NodeIdentified, NodeArrived, SessionOpened, ConfigurationRegistered, ConfigurationApplied):
        assert happened.count(kind) == 1
    assert happened.count(AddressAllocated) == 2


async def test_the_node_gets_gateways_and_servers_of_its_subnet(books: Books) -> None:
    node = Node(books, "web-1")
    await node.talk()
    (assigned,) = [event for event in node.heard if isinstance(event, Assigned)]
    assert assigned.assignment.gateways == (parse_address("fe80::1"), parse_address("192.0.2.1"))
    assert assigned.assignment.resolver.servers == (parse_address("2001:db8::53"),)
    assert {each.prefix_length for each in assigned.assignment.addresses} == {64, 124}


async def test_a_node_that_comes_back_keeps_its_addresses_without_a_new_lease(books: Books, log: FrailLog) -> None:
    first = Node(books, "web-1")
    await first.talk()
    first.session.leave(0.0)
    await first.talk()
    again = Node(books, "web-1")
    await again.talk()
    assert again.addresses == first.addresses
    assert sum(isinstance(event, AddressAllocated) for event in log.events()) == 2
    assert any(isinstance(event, SessionClosed) for event in log.events())


async def test_two_agents_serve_one_node_alike(site: Site, books: Books) -> None:
    first = Node(books, "web-1")
    await first.talk()
    async with site.agent("a2") as others:
        second = Node(others, "web-1", state=first.state)
        second.now = 1.0
        await second.talk()
        assert second.addresses == first.addresses
        assert second.session.exchange == "idle"


async def test_an_agent_that_is_behind_catches_up_before_it_answers(site: Site, books: Books) -> None:
    """Its follow has not brought yet what the other agent gave the node."""
    async with site.agent("a2") as behind:
        follow = behind._take
        behind._take = lambda stored: None  # type: ignore[method-assign]
        node = Node(books, "web-1")
        await node.talk()
        assert behind.position < books.position
        again = Node(behind, "web-1", state=node.state)
        await again.talk()
        assert again.addresses == node.addresses
        assert behind.position >= books.position
        behind._take = follow  # type: ignore[method-assign]


async def test_a_duplicate_is_declined_and_the_next_address_is_given(books: Books, log: FrailLog) -> None:
    first = Node(books, "web-1")
    await first.talk()
    taken = next(address for address in first.addresses if family(address) == 6)
    first.session.release(0.0)
    await first.talk()
    node = Node(books, "web-1")
    node.taken = {taken}
    await node.talk()
    assert {family(address) for address in node.addresses} == {4, 6}
    assert taken not in node.addresses
    (declined,) = [event for event in log.events() if isinstance(event, AddressDeclined)]
    assert declined.address == taken


async def test_the_group_follows_the_name(books: Books) -> None:
    node = Node(books, "phone-7")
    await node.talk()
    assert next(each for each in node.addresses if family(each) == 6)[8:10] == b"\x5a\x1e"


async def test_a_released_address_is_free_in_the_log(books: Books, log: FrailLog) -> None:
    node = Node(books, "web-1")
    await node.talk()
    node.session.release(0.0)
    await node.talk()
    assert not node.addresses
    assert sum(isinstance(event, AddressReleased) for event in log.events()) == 2
    assert not books.ledger.leases


async def test_a_renewal_costs_no_event_until_the_promise_is_used_up(books: Books, log: FrailLog, clock: Clock) -> None:
    node = Node(books, "web-1")
    await node.talk()
    before = len(log.records)
    elapsed = 0
    while elapsed < 4 * HOUR:
        node.pass_time(1_350)  # T1
        clock.micros += 1_350 * 1_000_000
        elapsed += 1_350
        await node.talk()
        assert len(node.addresses) == 2
    renewed = [event for event in log.events() if isinstance(event, AddressRenewed)]
    six = [event for event in renewed if family(event.address) == 6]
    four = [event for event in renewed if family(event.address) == 4]
    assert 1 <= len(six) <= 2  # promised for four lifetimes
    assert len(four) == elapsed // 1_350  # for one
    assert not any(isinstance(event, ConfigurationApplied) for event in log.events()[before:][9:])


async def test_a_node_that_comes_back_costs_one_renewal_of_what_is_promised_for_one_lifetime(
    books: Books, log: FrailLog
) -> None:
    """That is IPv4; confirming it renews it, and the assignment that answers does not renew it once more."""
    first = Node(books, "web-1")
    await first.talk()
    again = Node(books, "web-1", state=first.state)
    await again.talk()
    assert again.addresses == first.addresses
    assert [family(event.address) for event in log.events() if isinstance(event, AddressRenewed)] == [4]


async def test_nothing_is_promised_while_the_log_is_away_and_all_goes_on_when_it_is_back(
    books: Books, log: FrailLog
) -> None:
    first = Node(books, "web-1")
    await first.talk()
    log.cut = True
    second = Node(books, "web-2")
    await second.talk()
    assert not second.addresses
    log.cut = False
    third = Node(books, "web-3")
    await third.talk()
    assert len(third.addresses) == 2


async def test_a_full_pool_refuses_one_family_and_gives_the_other(books: Books) -> None:
    nodes = [Node(books, f"web-{number}") for number in range(14)]
    for node in nodes:
        await node.talk()
    last = nodes[-1]
    assert {family(address) for address in last.addresses} == {6}
    (assigned,) = [event for event in last.heard if isinstance(event, Assigned)]
    assert assigned.refused == {"4": "exhausted"}


async def test_a_changed_plan_reaches_a_node_that_has_a_session(site: Site, books: Books, log: FrailLog) -> None:
    node = Node(books, "web-1")
    await node.talk()
    books.changed.clear()
    await site.apply(PLAN.replace("2001:db8::53", "2001:db8::54"))
    await until(books.changed.is_set)
    await node.served.push()
    await node.talk()
    last = [event for event in node.heard if isinstance(event, Assigned)][-1]
    assert last.assignment.resolver.servers == (parse_address("2001:db8::54"),)
    assert sum(isinstance(event, PlanAdopted) for event in log.events()) == 2


async def test_a_node_is_told_what_is_for_its_group_and_at_once_when_that_changes(site: Site, books: Books) -> None:
    phone, other = Node(books, "phone-7"), Node(books, "web-1")

    async def push() -> list[Assignment]:
        await until(books.changed.is_set)
        books.take_due()
        for node in (phone, other):
            await node.served.push()
            await node.talk()
        return [[e for e in node.heard if isinstance(e, Assigned)][-1].assignment for node in (phone, other)]

    await phone.talk()
    await other.talk()
    of_group = 'name = "voip"\nnumber = 0x5a1e\n'
    plan = PLAN.replace(of_group, of_group + 'dns = ["2001:db8::5a"]\n')
    plan = plan.replace("[[pool]]", '[[subnet.group]]\nname = "voip"\ngateways = ["fe80::5"]\n[[pool]]', 1)
    await site.apply(plan)
    await until(lambda: books.ledger.plan.position == books.plan.position)
    for_phone, for_other = await push()
    assert for_phone.gateways == (parse_address("fe80::5"),)
    assert for_phone.resolver.servers == (parse_address("2001:db8::5a"),)
    assert for_other.gateways == (parse_address("fe80::1"), parse_address("192.0.2.1"))
    assert for_other.resolver.servers == (parse_address("2001:db8::53"),)
    await site.apply(plan.replace('"phone-*"', '"web-*"'))  # whom a group holds no ledger adopts
    for_phone, for_other = await push()
    assert for_phone.resolver.servers == (parse_address("2001:db8::53"),)
    assert for_other.gateways == (parse_address("fe80::5"),)


async def test_the_log_tells_when_a_plan_has_reached_a_node_that_keeps_its_addresses(
    site: Site, books: Books, log: FrailLog
) -> None:
    node = Node(books, "web-1")
    await node.talk()
    books.changed.clear()
    await site.apply(PLAN.replace("2001:db8::53", "2001:db8::54"))
    await until(books.changed.is_set)
    for _ in range(2):  # the second has nothing new to tell
        await node.served.push()
        await node.talk()
    first, second = [event for event in log.events() if isinstance(event, ConfigurationApplied)]
    assert first.items == second.items
    assert second.generation.plan == books.plan.position > first.generation.plan


async def test_a_node_is_told_what_a_smaller_plan_refuses_it(site: Site, books: Books) -> None:
    nodes = [Node(books, "web-1"), Node(books, "web-2")]
    for node in nodes:
        await node.talk()
    books.changed.clear()
    await site.apply(PLAN.replace('range = "192.0.2.0/28"', 'range = "192.0.2.2-192.0.2.2"'))
    await until(books.changed.is_set)
    for node in nodes:
        await node.served.push()
        await node.talk()
    last = [next(event for event in reversed(node.heard) if isinstance(event, Assigned)) for node in nodes]
    assert [event.refused for event in last] == [{}, {"4": "exhausted"}]


async def test_sessions_of_an_agent_that_was_killed_are_closed_when_it_is_back(site: Site, log: FrailLog) -> None:
    async with site.agent("a2") as killed:
        left, stayed = Node(killed, "web-1"), Node(killed, "web-2")
        for node in (left, stayed):
            await node.talk()
        left.session.leave(0.0)
        await left.talk()
    async with site.agent("a2") as back:
        await back.caught_up.wait()
        await back.settled()
    closed = [(event.client, event.why) for event in log.events() if isinstance(event, SessionClosed)]
    assert closed == [(left.client, "bye"), (stayed.client, ABANDONED)]


async def test_sessions_of_other_agents_are_not_closed(site: Site, books: Books, log: FrailLog) -> None:
    await Node(books, "web-1").talk()
    async with site.agent("a2") as other:
        await other.caught_up.wait()
        await other.settled()
    assert not any(isinstance(event, SessionClosed) for event in log.events())


async def test_a_plan_that_concerns_others_is_not_adopted(site: Site, books: Books, log: FrailLog) -> None:
    other = '[[subnet]]\nname = "lab"\nprefixes = ["2001:db8:9::/64"]\n'
    await site.apply(PLAN + other)
    await until(lambda: "lab" in books.plan.subnets)
    assert sum(isinstance(event, PlanAdopted) for event in log.events()) == 1


async def test_a_subnet_without_a_plan_refuses(site: Site, books: Books) -> None:
    await site.apply('[site]\nname = "s"\n')
    await until(lambda: books.ledger.plan.subnet is None)
    node = Node(books, "web-1")
    await node.talk()
    assert [event.code for event in node.heard if isinstance(event, Refused)] == ["no-subnet"]


async def test_a_lease_expires_once_and_not_before_everybody_must_have_stopped_using_it(
    site: Site, books: Books, log: FrailLog, clock: Clock
) -> None:
    node = Node(books, "web-1")
    await node.talk()
    async with site.agent("a2"):
        clock.micros += (HOUR + 59) * 1_000_000
        await pass_time(10)
        assert not any(isinstance(event, AddressExpired) for event in log.events())
        clock.micros += 2 * 1_000_000
        await until(lambda: any(isinstance(event, AddressExpired) for event in log.events()))
        await pass_time(10)
    (expired,) = [event for event in log.events() if isinstance(event, AddressExpired)]
    assert family(expired.address) == 4  # IPv6 is promised for longer


async def test_what_a_node_gave_back_to_another_agent_is_not_promised_again(
    site: Site, books: Books, log: FrailLog
) -> None:
    """This agent has not heard of that yet, and another node may have the address by now."""
    async with site.agent("a2") as behind:
        node = Node(books, "web-1")
        await node.talk()
        await until(lambda: behind.position == books.position)
        behind._take = lambda stored: None  # type: ignore[method-assign]
        node.session.release(0.0)
        await node.talk()
        again = Node(behind, "web-1")
        await again.talk()
        assert len(again.addresses) == 2
        allocated = [event.address for event in log.events() if isinstance(event, AddressAllocated)]
        assert len(allocated) == 4
        assert again.addresses == set(allocated[2:])


async def test_a_node_cannot_want_ever_more_addresses(books: Books) -> None:
    node = Node(books, "web-1")
    await node.talk()
    wanted = [Association(iaid=iaid, family=6) for iaid in range(2, MAX_ASSOCIATIONS + 10)]
    half = len(wanted) // 2
    for part in (wanted[:half], wanted[half:]):
        await node.served.handle(agent_events.Requested(0, tuple(part), None))
    assert len(books.ledger.leases) <= MAX_ASSOCIATIONS
    assert len(node.served._wanted) == MAX_ASSOCIATIONS


async def test_who_confirms_before_a_plan_was_adopted_keeps_what_it_has(site: Site, log: FrailLog) -> None:
    async with site.agent("a1") as books:
        node = Node(books, "web-1")
        await node.talk()
        books.ledger.adopted = Adopted(AdoptedPlan(position=0, level=0))
        again = Node(books, "web-1", state=node.state)
        await again.talk()
        assert len(again.addresses) == 2
        assert [event.code for event in again.heard if isinstance(event, Refused)] == ["no-subnet"]


async def test_a_session_that_was_recorded_is_closed_though_the_node_was_not_identified(
    books: Books, log: FrailLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def unavailable(request: IdentifyNode) -> None:
        raise Unavailable("cut off by the test")

    monkeypatch.setattr(books, "identify", unavailable)
    node = Node(books, "web-1")
    await node.talk()
    assert not node.addresses
    happened = [type(event) for event in log.events()]
    assert (happened.count(SessionOpened), happened.count(SessionClosed)) == (1, 1)


async def test_a_node_that_invents_things_to_be_refused_does_not_fill_the_log(books: Books, log: FrailLog) -> None:
    node = Node(books, "web-1")
    await node.talk()
    before = len(log.records)
    for attempt in range(100):
        bindings = tuple(
            Binding(iaid=1, address=(attempt * 1_000 + number).to_bytes(16)) for number in range(MAX_ASSOCIATIONS)
        )
        await node.served.handle(agent_events.Renewed(0, bindings, (), None))
    decisions = [decision for record in log.records[before:] for decision in codec.decode(record.data).decisions]
    assert len(decisions) <= DECISIONS_AT_ONCE + 100


async def test_a_node_whose_configuration_changes_all_the_time_is_recorded_now_and_then(
    books: Books, log: FrailLog
) -> None:
    node = Node(books, "web-1")
    await node.talk()
    for number in range(100):
        node.session.observe(Snapshot(kernel=f"6.{number}"), node.now)
        await node.talk()

    def kernels() -> list[str | None]:
        return [event.change.kernel for event in log.events() if isinstance(event, ConfigurationChanged)]

    assert len(kernels()) <= OBSERVATIONS_AT_ONCE
    while kernels()[-1] != "6.99":
        node.pass_time(31)
        await pass_time(31)
        await node.talk()
        assert node.now < 600


def having(address: bytes, *, origin: str = "other") -> tuple[InterfaceAddress, ...]:
    return (InterfaceAddress(interface=2, address=address, prefix_length=120, origin=origin),)


async def test_what_a_node_has_of_somebody_else_is_given_to_nobody(books: Books, log: FrailLog) -> None:
    """It says so when it registers; the event names the commit in which it did."""
    free = Node(books, "web-1")
    await free.talk()
    [mine] = free.new_connections_from(4)
    free.agent.bye("test")
    await books.decide(ReleaseAddress(client=free.client, iaid=1, address=mine))
    holder = Node(books, "printer")
    holder.configured = having(mine)
    await holder.talk()
    [blocked] = [event for event in log.events() if isinstance(event, AddressBlocked)]
    assert (blocked.address, blocked.client) == (mine, holder.client)
    said = codec.decode(log.records[blocked.cause - 1].data).events
    assert any(isinstance(event, ConfigurationRegistered) and event.client == holder.client for event in said)
    again = Node(books, "web-1")
    await again.talk()
    assert again.new_connections_from(4) != [mine]
    assert holder.new_connections_from(4) != [mine]


@pytest.mark.parametrize("origin", ["slaac", "temporary", "managed"])
async def test_what_autoconfiguration_gave_is_not_blocked(books: Books, log: FrailLog, origin: str) -> None:
    node = Node(books, "web-1")
    node.configured = having(parse_address("2001:db8:1:1::77"), origin=origin)
    await node.talk()
    assert not [event for event in log.events() if isinstance(event, AddressBlocked)]


async def test_a_node_that_says_it_has_anothers_address_takes_it_from_nobody(books: Books, log: FrailLog) -> None:
    victim, liar = Node(books, "web-1"), Node(books, "web-2")
    await victim.talk()
    liar.configured = tuple(each for address in victim.addresses for each in having(address))
    await liar.talk()
    assert not [event for event in log.events() if isinstance(event, AddressBlocked | AddressWithdrawn)]
    assert {
        lease.address for lease in books.ledger.leases.values() if lease.client == victim.client
    } == victim.addresses
