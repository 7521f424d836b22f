"""Prefixes by a session: given, told once their route is there, renewed, changed, and given back."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator

import pytest

from dnms.agents.subnet import uplink
from dnms.agents.subnet.books import Books
from dnms.agents.subnet.delegates import NO_ROUTE, PREFIX
from dnms.agents.subnet.folds import Folds
from dnms.agents.subnet.newcomers import LEASES_A_NODE, Newcomers
from dnms.agents.subnet.routers import WITHIN, Reached, Routers
from dnms.agents.subnet.snapshot import Whose, restored, taken
from dnms.agents.subnet.upstream import Received
from dnms.bus.committer import Committer, WriteOnly
from dnms.domain.aggregate import Fold
from dnms.events import subjects
from dnms.events.effect import EffectApplied
from dnms.events.ip import Prefix, parse_address, parse_prefix
from dnms.events.plan import Uplink
from dnms.events.prefix import PrefixDelegated, PrefixExpired, PrefixReleased
from dnms.events.requests import UplinkPrefix
from dnms.events.uplink import Source, UplinkDeprecated, UplinkLost, UplinkReceived
from dnms.wire import node_events
from dnms.wire.messages import PrefixAssociation
from tests.unit.agents.conftest import SECRET, SITE, SUBNET, Node, Site, running, until
from tests.virtual_time import pass_time

WANTS = (PrefixAssociation(iaid=1, length=60),)
HOUR = 3_600_000_000

STATIC = f"""
[site]
name = "{SITE}"
[[subnet]]
name = "{SUBNET}"
prefixes = ["2001:db8:1::/64"]
[[pool]]
name = "hosts"
subnet = "{SUBNET}"
range = "2001:db8:1::/64"
[[delegation]]
name = "blocks"
subnet = "{SUBNET}"
prefix = "2001:db8:2::/56"
length = 62
shortest = 60
"""
ROUTED = STATIC.replace("prefixes =", 'routers = ["border"]\nprefixes =')
CUT = f"""
[site]
name = "{SITE}"
[[uplink]]
name = "wan"
[[subnet]]
name = "{SUBNET}"
uplink = "wan"
[[pool]]
name = "hosts"
subnet = "{SUBNET}"
range = "::/64"
[[delegation]]
name = "blocks"
subnet = "{SUBNET}"
length = 60
"""


def prefixes(node: Node) -> list[Prefix]:
    """Those that it may begin something with."""
    assigned = node.state.assignment
    return [] if assigned is None else [each.prefix for each in assigned.prefixes if each.preferred]


def refused(node: Node) -> dict[str, str]:
    return [each for each in node.heard if isinstance(each, node_events.Assigned)][-1].refused


async def snapshot_of(books: Books) -> Folds:
    """What an agent goes on from that has kept one, and was started anew."""
    whose = Whose(SITE, SUBNET, "a1")
    parts = await taken(books.folds, whose, None)
    assert parts is not None
    small, large = parts
    return restored(memoryview(small), memoryview(b"".join(large)), whose, secret=SECRET)


class Router:
    """The routes of a router, as it says on the log how far they are."""

    def __init__(self, site: Site, books: Books) -> None:
        self._site, self._books = site, books

    async def applies(self, position: int, *lacks: str) -> None:
        committer = Committer(
            self._site.log,
            subjects.effect(SITE, "routes", "border"),
            Fold(WriteOnly()),
            actor="subscriber/routes/border",
            now=self._site.clock.now,
            random=secrets.token_bytes,
        )
        await committer.catch_up()
        writing = asyncio.create_task(committer.run())
        await committer.observe((EffectApplied(position=position, lacks=lacks),))
        writing.cancel()
        await until(lambda: self._books.routers.reached(("border",)) == position)


@pytest.fixture
async def static(site: Site) -> AsyncIterator[Books]:
    await site.apply(STATIC)
    async with site.agent() as books:
        yield books


@pytest.fixture
async def routed(site: Site) -> AsyncIterator[Books]:
    await site.apply(ROUTED)
    async with site.agent() as books:
        yield books


async def test_a_node_that_wants_a_prefix_is_told_one_with_its_addresses(site: Site, static: Books) -> None:
    node = Node(static, "laptop", prefixes=WANTS)
    await node.talk()
    [assigned] = node.state.assignment.prefixes if node.state.assignment else ()
    assert parse_prefix("2001:db8:2::/56").covers(assigned.prefix) and assigned.prefix.length == 60
    assert (assigned.preferred, assigned.valid) == (2_700, 3_600)
    [event] = [event for event in site.log.events() if isinstance(event, PrefixDelegated)]
    assert (event.client, event.next_hop) == (node.client, parse_address("fe80::5"))
    assert assigned.position == next(
        record.sequence for record in site.log.records if b"prefix.delegated" in record.data
    )
    assert node.state.assignment is not None and node.state.assignment.log == site.log.log_id
    assert node.addresses


async def test_who_wants_none_is_told_none(static: Books) -> None:
    node = Node(static, "laptop")
    await node.talk()
    assert node.state.assignment is not None
    assert (node.state.assignment.prefixes, node.state.assignment.log) == ((), "")


async def test_a_prefix_is_told_only_when_its_route_is_there(site: Site, routed: Books) -> None:
    router, node = Router(site, routed), Node(routed, "laptop", prefixes=WANTS)
    talking = asyncio.create_task(node.talk())
    await until(lambda: any(isinstance(event, PrefixDelegated) for event in site.log.events()))
    await pass_time(WITHIN / 2)
    assert not talking.done()
    await router.applies(routed.position)
    await talking
    assert len(prefixes(node)) == 1 and PREFIX not in refused(node)


async def test_who_was_told_none_since_no_route_came_is_told_when_it_comes(site: Site, routed: Books) -> None:
    router, node = Router(site, routed), Node(routed, "laptop", prefixes=WANTS)
    await node.talk()
    assert prefixes(node) == [] and refused(node)[PREFIX] == NO_ROUTE
    assert node.addresses  # which no router has to know of
    began = asyncio.get_running_loop().time()
    await node.served.push()  # nobody waits twice for a router that is away
    assert asyncio.get_running_loop().time() - began < WITHIN / 2
    routed.take_due()
    await router.applies(routed.position)
    await until(routed.changed.is_set)
    assert routed.take_due() == {node.client}
    await node.served.push()
    await node.talk()
    assert len(prefixes(node)) == 1


async def test_a_prefix_to_which_a_router_cannot_have_a_route_is_told_when_it_can(site: Site, routed: Books) -> None:
    router, node = Router(site, routed), Node(routed, "laptop", prefixes=WANTS)
    talking = asyncio.create_task(node.talk())
    await until(lambda: bool(routed.ledger.delegations.all))
    [prefix] = routed.ledger.delegations.all
    route = f"{prefix} via fe80::5 dev eth1 metric 1025"
    await router.applies(routed.position, route)
    await talking
    assert prefixes(node) == [] and refused(node)[PREFIX] == NO_ROUTE
    routed.take_due()
    await router.applies(routed.position)
    await until(routed.changed.is_set)
    assert routed.take_due() == {node.client}
    await node.served.push()
    await node.talk()
    assert prefixes(node) == [prefix]
    await router.applies(routed.position, route)  # its link went: what was told stays told
    await node.served.push()
    await node.talk()
    assert prefixes(node) == [prefix]


async def test_an_agent_that_starts_again_knows_which_routes_were_there(site: Site) -> None:
    await site.apply(ROUTED)
    async with site.agent() as books:
        node = Node(books, "laptop", prefixes=WANTS)
        talking = asyncio.create_task(node.talk())
        await until(lambda: any(isinstance(event, PrefixDelegated) for event in site.log.events()))
        await Router(site, books).applies(books.position)
        await talking
        before = prefixes(node)
    async with site.agent() as books:
        again = Node(books, "laptop", prefixes=WANTS)
        await again.talk()
        assert prefixes(again) == before != []


async def test_an_agent_that_starts_from_a_snapshot_knows_which_routes_were_not_there_yet(site: Site) -> None:
    await site.apply(ROUTED)
    async with site.agent() as books:
        node = Node(books, "laptop", prefixes=WANTS)
        await node.talk()
        assert refused(node)[PREFIX] == NO_ROUTE
        folds = await snapshot_of(books)
    books = site.books(folds=folds)
    async with running(books):
        await until(books.caught_up.is_set)
        node = Node(books, "laptop", prefixes=WANTS)
        await node.talk()
        assert prefixes(node) == [] and refused(node)[PREFIX] == NO_ROUTE
        await Router(site, books).applies(books.position)
        await node.served.push()
        await node.talk()
        told = prefixes(node)
        assert len(told) == 1
        folds = await snapshot_of(books)
    books = site.books(folds=folds)
    async with running(books):
        await until(books.caught_up.is_set)
        node = Node(books, "laptop", prefixes=WANTS)
        await node.talk()
        assert prefixes(node) == told


async def test_a_router_that_is_named_later_takes_no_prefix_from_who_has_one(site: Site, static: Books) -> None:
    node, other = Node(static, "laptop", prefixes=WANTS), Node(static, "tablet", prefixes=WANTS)
    await node.talk()
    told = prefixes(node)
    await site.apply(ROUTED)
    await until(lambda: static.ledger.plan.subnet is not None and static.ledger.plan.subnet.downlink.routers != ())
    await node.served.push()
    await node.talk()
    assert prefixes(node) == told != []
    await other.talk()
    assert refused(other)[PREFIX] == NO_ROUTE


async def test_no_route_is_waited_for_where_the_prefix_stays_as_it_is(site: Site, routed: Books) -> None:
    node = Node(routed, "laptop", prefixes=WANTS)
    talking = asyncio.create_task(node.talk())
    await until(lambda: any(isinstance(event, PrefixDelegated) for event in site.log.events()))
    await Router(site, routed).applies(routed.position)
    await talking
    began = asyncio.get_running_loop().time()
    await node.served.push()
    await node.talk()
    assert asyncio.get_running_loop().time() == pytest.approx(began, abs=0.1)
    assert len(prefixes(node)) == 1


async def test_a_session_that_is_extended_extends_the_prefix_too(site: Site, static: Books) -> None:
    node = Node(static, "laptop", prefixes=WANTS)
    await node.talk()
    site.clock.micros += HOUR // 2
    node.now += 1_800
    node.heard.clear()
    await node.served.extend()
    await node.talk()
    assert [type(each) for each in node.heard] == [node_events.Extended]
    site.clock.micros += 4 * HOUR
    await node.served.push()
    await node.talk()
    assert len(prefixes(node)) == 1


async def test_a_release_gives_the_prefix_back_with_all_else(site: Site, static: Books) -> None:
    node = Node(static, "laptop", prefixes=WANTS)
    await node.talk()
    [prefix] = prefixes(node)
    node.session.release(node.now)
    await node.talk()
    [event] = [event for event in site.log.events() if isinstance(event, PrefixReleased)]
    assert event.prefix == prefix
    assert not static.ledger.delegations.all


async def test_a_node_that_asks_under_ever_other_names_is_not_given_all_there_is(site: Site, static: Books) -> None:
    newcomers = Newcomers(at_once=2)
    for iaid in range(LEASES_A_NODE * 2):
        node = Node(static, "laptop", prefixes=(PrefixAssociation(iaid=iaid),))
        node.served = node.serve("fe80::5%eth0", newcomers)
        await node.talk()
    assert 0 < len(static.ledger.delegations.all) < LEASES_A_NODE * 2  # and addresses were asked for
    assert refused(node)[PREFIX] == "busy"
    assert node.addresses


async def test_why_there_is_none_is_told(site: Site) -> None:
    await site.apply(CUT)
    async with site.agent() as books:
        node = Node(books, "laptop", prefixes=WANTS)
        await node.talk()
        assert [each.code for each in node.heard if isinstance(each, node_events.Refused)] == ["no-pool"]


async def test_what_nobody_renews_expires(site: Site, static: Books) -> None:
    node = Node(static, "laptop", prefixes=WANTS)
    await node.talk()
    await pass_time(4 * 3_600)  # as long as nothing expires after a start
    site.clock.micros += 5 * HOUR
    await until(lambda: any(isinstance(event, PrefixExpired) for event in site.log.events()))
    assert not static.ledger.delegations.all


async def test_what_is_drained_after_the_logs_clock_was_set_forward_is_not_over_yet(site: Site, static: Books) -> None:
    node = Node(static, "laptop", prefixes=WANTS)
    await node.talk()
    [prefix] = prefixes(node)
    site.clock.micros += 5 * HOUR  # and no node's
    static.suspend_expiry()
    await site.apply(STATIC.replace("2001:db8:2::/56", "2001:db8:3::/56"))
    await until(lambda: static.ledger.delegations.all[prefix].drained_at != 0)
    assert static.ledger.delegations.all[prefix].drained_at < site.clock.micros
    await pass_time(3_600)
    assert prefix in static.ledger.delegations.all
    await pass_time(4 * 3_600)
    assert prefix not in static.ledger.delegations.all


class Above:
    """An upstream that says what the test says."""

    def __init__(self) -> None:
        self.changed = asyncio.Event()
        self.received: Received | None = None
        self.asked: list[Uplink] = []

    def __call__(self, planned: Uplink) -> Above:
        self.asked.append(planned)
        return self

    def says(self, *several: UplinkPrefix, why: str = "cut") -> None:
        self.received = Received(prefixes=several, source=Source(name="dnms s/above", log="log", position=7), why=why)
        self.changed.set()

    def current(self) -> Received | None:
        return self.received

    async def run(self) -> None:
        await asyncio.Event().wait()


async def test_what_comes_from_above_is_given_below_and_renumbers_it(site: Site) -> None:
    await site.apply(CUT)
    async with site.agent() as books:
        above, now = Above(), site.clock.micros
        reporting = asyncio.create_task(uplink.Uplink(books, above).run())
        old = UplinkPrefix(
            prefix=parse_prefix("2001:db8:a::/56"), preferred_until=now + HOUR, valid_until=now + HOUR, position=5
        )
        above.says(old)
        await until(lambda: bool(books.ledger.uplinks))
        assert [each.name for each in above.asked] == ["wan"]
        node = Node(books, "laptop", prefixes=WANTS)
        await node.talk()
        [first] = prefixes(node)
        new = UplinkPrefix(prefix=parse_prefix("2001:db8:b::/56"), preferred_until=now + HOUR, valid_until=now + HOUR)
        above.says(new)
        await until(lambda: len(books.ledger.uplinks) == 2)
        await until(books.changed.is_set)
        await node.served.push()
        await node.talk()
        [second] = prefixes(node)
        assert old.prefix.covers(first) and new.prefix.covers(second)
        assert node.state.assignment is not None
        assert {each.prefix: bool(each.preferred) for each in node.state.assignment.prefixes} == {
            second: True,
            first: False,
        }
        site.clock.micros += 61_000_000
        await until(lambda: old.prefix not in books.ledger.uplinks, seconds=70)
        await node.served.push()
        await node.talk()
        assert [each.prefix for each in node.state.assignment.prefixes] == [second]
        happened = [event for event in site.log.events() if isinstance(event, UplinkReceived | UplinkDeprecated)]
        assert [event.source.position for event in happened] == [5, 7, 5]
        reporting.cancel()
        await asyncio.wait((reporting,))


async def test_nodes_hear_at_once_that_what_they_have_ends_sooner_and_later_that_it_lasts(site: Site) -> None:
    await site.apply(CUT)
    async with site.agent() as books:
        above, now = Above(), site.clock.micros
        running = asyncio.create_task(uplink.Uplink(books, above).run())

        async def lasts(until_when: int) -> bool:
            books.take_due()
            prefix = parse_prefix("2001:db8:a::/56")
            above.says(UplinkPrefix(prefix=prefix, preferred_until=until_when, valid_until=until_when))
            await until(lambda: any(each.valid_until == until_when for each in books.ledger.uplinks.values()))
            await pass_time(1)
            return books.changed.is_set()

        await lasts(now + HOUR)
        node = Node(books, "laptop", prefixes=WANTS)
        await node.talk()
        assert not await lasts(now + 2 * HOUR)
        assert await lasts(now + HOUR // 10)
        await node.served.push()
        await node.talk()
        assert node.state.assignment is not None
        assigned = node.state.assignment
        assert all(350 < each.valid <= 360 for each in assigned.prefixes)
        assert all(350 < each.valid <= 360 for each in assigned.addresses)
        running.cancel()
        await asyncio.wait((running,))


async def test_what_was_given_back_above_is_lost_at_once(site: Site) -> None:
    await site.apply(CUT)
    async with site.agent() as books:
        above, now = Above(), site.clock.micros
        reporting = asyncio.create_task(uplink.Uplink(books, above).run())
        above.says(
            UplinkPrefix(prefix=parse_prefix("2001:db8:a::/56"), preferred_until=now + HOUR, valid_until=now + HOUR)
        )
        await until(lambda: bool(books.ledger.uplinks))
        above.says(why="released")
        await until(lambda: any(isinstance(event, UplinkLost) for event in site.log.events()))
        assert not books.ledger.uplinks
        reporting.cancel()
        await asyncio.wait((reporting,))


def test_a_router_that_only_the_ledger_knows_of_yet_takes_nothing_away() -> None:
    routers = Routers(Reached(positions={"border": 9}, named=("border",)), followed=10)
    assert routers.reached(("border", "second")) == 9
    routers.adopted(("border", "second"), 11)
    assert routers.reached(("second",)) == 11
    assert Routers(Reached(), followed=3).reached(("border",)) == 3  # of what is delegated from now on it has nothing
