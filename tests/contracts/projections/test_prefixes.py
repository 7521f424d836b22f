"""Who holds which prefix of whom, what is cut from what, and why: over an ISP, a router, a laptop and its machines."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import pytest

from dnms.events.address import AddressAllocated
from dnms.events.effect import EffectApplied
from dnms.events.ip import Prefix, parse_address, parse_prefix
from dnms.events.node import NodeEntered, NodeIdentified
from dnms.events.plan import (
    AdoptedPlan,
    Delegation,
    DelegationDefined,
    Downlink,
    Group,
    GroupDefined,
    PlanAdopted,
    Pool,
    PoolDefined,
    SiteDefined,
    Subnet,
    SubnetDefined,
    Uplink,
    UplinkDefined,
)
from dnms.events.prefix import (
    PrefixDelegated,
    PrefixDeprecated,
    PrefixReleased,
    PrefixRenewed,
    PrefixWithdrawn,
)
from dnms.events.recorded import Event, Personal
from dnms.events.rule import Rule, RuleDefined
from dnms.events.uplink import Source, UplinkLost, UplinkReceived
from dnms.projections.example import SITE, happened
from dnms.projections.history import delegated
from dnms.projections.history import queries as history
from dnms.projections.prefixes import queries
from dnms.projections.prefixes.tree import tree
from dnms.projections.runner import rebuild
from dnms.projections.views import Moment, Views
from dnms.projections.why import steps
from dnms.projections.why.asked import asked
from dnms.projections.why.steps import Step
from tests.contracts.projections.logs import memory_log, write

LAPTOP, VM, CONTAINER = (bytes([number]) * 16 for number in (0xA, 0xB, 0xC))
BORDER, HOP, INNER_HOP = parse_address("fe80::1"), parse_address("fe80::a"), parse_address("fe80::b")
ABOVE, HOME = parse_prefix("2001:db8:1::/56"), parse_prefix("2001:db8:1::/64")
LAPTOPS, VMS = parse_prefix("2001:db8:1:10::/60"), parse_prefix("2001:db8:1:10::/64")
INNER, LEASED = parse_prefix("2001:db8:1:11::/64"), parse_address("2001:db8:1:10::5")
ISP = Source(name="dhcpv6 00:03:00:01:02")
WAN, HOME_ROUTER = Uplink(name="wan", protocol="dhcpv6", length=56), Uplink(name="home-router")
ROUTE = "2001:db8:1:10::/60 via fe80::a dev eth1 metric 1025"


def _subnet(name: str, uplink: Uplink, *own: Prefix) -> Subnet:
    return Subnet(name=name, realm="default", prefixes=own, downlink=Downlink(uplink=uplink.name))


def _plan() -> tuple[Event, ...]:
    return (
        SiteDefined(name=SITE, level=1),
        UplinkDefined(uplink=WAN),
        UplinkDefined(uplink=HOME_ROUTER),
        SubnetDefined(subnet=_subnet("home", WAN)),
        SubnetDefined(subnet=_subnet("vms", HOME_ROUTER)),
        PoolDefined(pool=Pool(name="guests", subnet="vms", first=VMS.network, last=VMS.last.to_bytes(16))),
        DelegationDefined(delegation=Delegation(name="to-laptops", subnet="home", length=60)),
        DelegationDefined(delegation=Delegation(name="to-vms", subnet="vms", length=64)),
        GroupDefined(group=Group(name="sales", number=7, nodes=("vm-*",))),
        RuleDefined(rule=Rule(name="into-sales", direction="ingress", group="sales")),
        RuleDefined(rule=Rule(name="others", direction="ingress", group="voip")),
    )


def _delegated(client: bytes, prefix: Prefix, pool: str, next_hop: bytes) -> PrefixDelegated:
    return PrefixDelegated(
        prefix=prefix,
        client=client,
        iaid=1,
        delegation=pool,
        next_hop=next_hop,
        interface="eth1",
        valid_until=3_600_000_000,
        horizon=7_200_000_000,
    )


def _received(uplink: str, prefix: Prefix, source: Source) -> UplinkReceived:
    return UplinkReceived(
        uplink=uplink, prefix=prefix, preferred_until=1_000_000_000, valid_until=9_000_000_000, source=source
    )


def _adopted(subnet: str, uplink: Uplink, *own: Prefix) -> PlanAdopted:
    planned = _subnet(subnet, uplink, *own)
    return PlanAdopted(plan=AdoptedPlan(position=1, level=1, subnet=planned, uplink=uplink, cut=own))


LOG = (
    happened("plan", 10, *_plan()),
    happened("ledger.home", 20, _received("wan", ABOVE, ISP), _adopted("home", WAN, HOME)),
    happened("ledger.home", 30, _delegated(LAPTOP, LAPTOPS, "to-laptops", HOP)),
    happened("effect.routes.border", 40, EffectApplied(position=3, added=(ROUTE,))),
    happened(
        "ledger.vms",
        50,
        _received("home-router", LAPTOPS, Source(name=f"dnms {SITE}/home", log="one", position=3)),
        _adopted("vms", HOME_ROUTER, VMS),
    ),
    happened("ledger.vms", 60, _delegated(VM, INNER, "to-vms", INNER_HOP)),
    happened(
        "ledger.vms",
        70,
        AddressAllocated(
            address=LEASED, client=CONTAINER, iaid=1, pool="guests", group=7, valid_until=80, horizon=90_000_000_000
        ),
    ),
    happened("node.0a", 80, NodeIdentified(client=LAPTOP, duid=Personal(LAPTOP), name=Personal("laptop"))),
    happened(
        "node.0c", 90, NodeEntered(client=CONTAINER, duid=Personal(b"c"), name=Personal("vm-1"), iaid=1, group="sales")
    ),
    happened("effect.firewall.border", 95, EffectApplied(position=7, added=("2001:db8:1:10::5 in sales-6",))),
)


@pytest.fixture
async def views(tmp_path: Path) -> AsyncIterator[Views]:
    log = memory_log()
    await write(log, *LOG)
    path = tmp_path / "views.db"
    await rebuild(log, path, site=SITE)
    views = Views(path)
    yield views
    await views.close()


async def told(views: Views, of: str, at: Moment | None = None) -> list[Step]:
    async with views.read(at) as reading:
        return await steps.why(reading.db, reading.position.log_id, asked(of))


def shown(found: list[Step]) -> list[tuple[int, str | None, str | None]]:
    return [(step.depth, step.event, step.position) for step in found]


FROM_ABOVE = [
    (0, "uplink.received", "2.0"),
    (1, "uplink.defined", "1.1"),
    (1, None, None),
]
LAPTOPS_WHY = [
    (0, "prefix.delegated", "3.0"),
    (1, "delegation.defined", "1.6"),
    *((depth + 1, event, place) for depth, event, place in FROM_ABOVE),
]
INNER_ABOVE = [
    (0, "uplink.received", "5.0"),
    (1, "uplink.defined", "1.2"),
    *((depth + 1, event, place) for depth, event, place in LAPTOPS_WHY),
]


def deeper(steps: list[tuple[int, str | None, str | None]], by: int) -> list[tuple[int, str | None, str | None]]:
    return [(depth + by, event, place) for depth, event, place in steps]


async def test_a_route_leads_back_over_every_level_to_who_delegated_the_first(views: Views) -> None:
    found = await told(views, f"{ROUTE} proto 199 pref medium")
    assert shown(found) == [(0, "effect.applied", "4.0"), *deeper(LAPTOPS_WHY, 1)]
    assert found[0].what == "agent/east has added the route 2001:db8:1:10::/60 via fe80::a dev eth1"
    assert found[1].what == "2001:db8:1:10::/60 is delegated to laptop, via fe80::a, in subnet home"
    assert found[-1].what == "dhcpv6 00:03:00:01:02 delegated it; no log says why"
    assert {step.actor for step in found[:-1]} == {"agent/east"}
    assert shown(await told(views, "2001:db8:1:11::/64 via fe80::b dev br0")) == [
        (0, None, None),
        (1, "prefix.delegated", "6.0"),
        (2, "delegation.defined", "1.7"),
        *deeper(INNER_ABOVE, 2),
    ]


async def test_every_kind_of_thing_is_explained(views: Views) -> None:
    for of in ("2001:db8:1:10::/60", "2001:db8:1:1f::9"):
        assert shown(await told(views, of)) == INNER_ABOVE
    link = [(0, "plan.adopted", "5.1"), (1, "subnet.defined", "1.4"), *deeper(INNER_ABOVE, 1)]
    assert shown(await told(views, "2001:db8:1:10::/64 dev br0 metric 1025")) == [(0, None, None), *deeper(link, 1)]
    leased = [(0, "address.allocated", "7.0"), (1, "pool.defined", "1.5"), *deeper(link, 1)]
    assert shown(await told(views, "2001:db8:1:10::5")) == leased
    assert shown(await told(views, "2001:db8:1:10::5 in sales-6")) == [
        (0, "effect.applied", "10.0"),
        (1, "group.defined", "1.8"),
        (1, "rule.defined", "1.9"),
        (1, "node.entered", "9.0"),
        *deeper(leased, 1),
    ]
    held = await told(views, "2001:db8:1:10::5 in held_vms-6")
    assert shown(held) == [(0, None, None), (1, "subnet.defined", "1.4"), *deeper(leased, 1)][: len(held)]
    assert held[0].what == "2001:db8:1:10::5 in held_vms-6, a set of subnet vms"
    assert shown(await told(views, "unreachable 2001:db8:1::/56 dev lo metric 4096")) == [
        (0, None, None),
        *deeper(FROM_ABOVE, 1),
    ]
    for of in ("2001:db8:9::/64", "192.0.2.1", "2001:db8:1:10::/60 via fe80::77 dev eth1", "2001:db8:9::1 in sales-6"):
        assert await told(views, of) == []


async def test_it_is_asked_as_of_then(views: Views) -> None:
    assert await told(views, "2001:db8:1:10::/60", 2) == []
    assert shown(await told(views, "2001:db8:1:10::/60", 3)) == LAPTOPS_WHY
    assert shown(await told(views, ROUTE, 3)) == [(0, None, None), *deeper(LAPTOPS_WHY, 1)]


@pytest.mark.parametrize(
    ("of", "said"),
    [
        ("", "expected an address"),
        ("default via fe80::1 dev eth0", "a default route"),
        ("unreachable", "expected an address"),
        ("2001:db8::1/64", "has host bits set"),
        ("laptop", "expected an address"),
        ("2001:db8::/64 metric 5", "expected an address"),
    ],
)
def test_what_cannot_be_asked_about_is_said(of: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        asked(of)


async def test_the_way_ends_where_another_log_goes_on(tmp_path: Path) -> None:
    log, path = memory_log(), tmp_path / "views.db"
    other = Source(name="dnms campus/dorms", log="another", position=77)
    await write(log, happened("ledger.home", 10, _received("wan", ABOVE, other)))
    await write(log, happened("ledger.home", 20, UplinkLost(uplink="wan", prefix=ABOVE, why="cut")))
    await rebuild(log, path, site=SITE)
    views = Views(path)
    found = await told(views, "2001:db8:1::/56")
    await views.close()
    assert [(step.depth, step.log, step.position) for step in found] == [(0, None, "1.0"), (1, "another", "77")]


async def test_the_tree_has_what_is_cut_from_what_over_all_subnets(views: Views) -> None:
    async with views.read() as reading:
        found = await tree(reading.db, "one")
        inner = await tree(reading.db, "one", within=INNER)
        another = await tree(reading.db, "another")
    assert [(row.depth, row.prefix, row.kind, row.subnet, row.position) for row in found] == [
        (0, "2001:db8:1::/56", "uplink", "home", "2.0"),
        (1, "2001:db8:1::/64", "link", "home", "2.1"),
        (1, "2001:db8:1:10::/60", "delegation", "home", "3.0"),
        (2, "2001:db8:1:10::/60", "uplink", "vms", "5.0"),
        (3, "2001:db8:1:10::/64", "link", "vms", "5.1"),
        (3, "2001:db8:1:11::/64", "delegation", "vms", "6.0"),
    ]
    assert [row.depth for row in inner] == [0, 1, 2, 3]
    assert [row.depth for row in another] == [0, 1, 1, 0, 1, 1]  # the log that it names is not this one


async def test_a_renewal_moves_no_prefix_in_the_tree(tmp_path: Path) -> None:
    """What it came of is then the delegation that it lies in."""
    log, path = memory_log(), tmp_path / "views.db"
    renewed = PrefixRenewed(
        prefix=LAPTOPS, client=LAPTOP, iaid=1, next_hop=HOP, valid_until=5_000_000_000, horizon=8_000_000_000
    )
    await write(log, *LOG, happened("ledger.home", 100, renewed), happened("ledger.home", 110, renewed))
    await rebuild(log, path, site=SITE)
    views = Views(path)
    async with views.read() as reading:
        assert [row.depth for row in await tree(reading.db, "one")] == [0, 1, 1, 2, 3, 3]
    await views.close()


async def test_lists_are_filtered_paged_and_asked_as_of_then(views: Views, tmp_path: Path) -> None:
    async with views.read() as reading:
        db = reading.db
        rows = await queries.delegations(db)
        assert [(row.prefix, row.node, row.above) for row in rows] == [
            ("2001:db8:1:10::/60", "laptop", "2001:db8:1::/56"),
            ("2001:db8:1:11::/64", None, "2001:db8:1:10::/60"),
        ]
        first = await queries.delegations(db, limit=1)
        assert await queries.delegations(db, after=queries.key_of(first[0])) == rows[1:]
        assert await queries.delegations(db, descending=True) == rows[::-1]
        last = await queries.delegations(db, descending=True, limit=1)
        assert await queries.delegations(db, descending=True, after=queries.key_of(last[0])) == rows[:1]
        assert await queries.delegations(db, subnet="vms") == rows[1:]
        assert await queries.delegations(db, pool="to-laptops") == rows[:1]
        assert await queries.delegations(db, client=VM) == rows[1:]
        assert await queries.delegations(db, state="released") == []
        assert await queries.delegations(db, within=parse_prefix("2001:db8:1:11::/80")) == rows
        assert await queries.delegations(db, within=parse_prefix("2001:db8:1:12::/64")) == rows[:1]
        assert await queries.delegations(db, within=ABOVE) == rows
    async with views.read(2) as reading:
        assert await queries.delegations(reading.db) == []
        assert [row.prefix for row in await queries.uplinks(reading.db)] == ["2001:db8:1::/56"]


async def test_who_had_an_address_says_who_held_the_prefix_then(tmp_path: Path) -> None:
    log, path = memory_log(), tmp_path / "views.db"
    again = _delegated(VM, LAPTOPS, "to-laptops", INNER_HOP)
    await write(
        log,
        *LOG[:3],
        happened(
            "ledger.home", 40, PrefixDeprecated(prefix=LAPTOPS, client=LAPTOP, iaid=1, next_hop=HOP, valid_until=1)
        ),
        happened("ledger.home", 50, PrefixReleased(prefix=LAPTOPS, client=LAPTOP, iaid=1, next_hop=HOP)),
        happened("ledger.home", 60, again),
        happened("ledger.home", 70, PrefixWithdrawn(prefix=LAPTOPS, client=VM, iaid=1, next_hop=INNER_HOP)),
    )
    await rebuild(log, path, site=SITE)
    views = Views(path)
    async with views.read() as reading:
        inside = parse_address("2001:db8:1:1f::77")
        ever = await history.who_had(reading.db, inside)
        assert [(one.address, one.client, one.opened_by, one.closed_by) for one in ever] == [
            ("2001:db8:1:10::/60", VM.hex(), "prefix.delegated", "prefix.withdrawn"),
            ("2001:db8:1:10::/60", LAPTOP.hex(), "prefix.delegated", "prefix.released"),
        ]
        for at, client in ((29, None), (30, LAPTOP), (49, LAPTOP), (50, None), (60, VM), (70, None)):
            assert [one.client for one in await history.who_had(reading.db, inside, at)] == (
                [client.hex()] if client else []
            )
        assert await history.who_had(reading.db, parse_address("2001:db8:1:20::")) == []
    await views.close()


async def test_what_prefixes_have_an_address_in_them_is_sought_and_not_looked_for(tmp_path: Path) -> None:
    """Else a question about one address would take the longer, the more was ever delegated."""
    log, path = memory_log(), tmp_path / "views.db"
    await write(log, *LOG)
    await rebuild(log, path, site=SITE)
    with closing(sqlite3.connect(path)) as db:
        asked_for: list[str] = []
        db.set_trace_callback(asked_for.append)
        assert delegated.around(db, LEASED, history.EVER, 9)
        assert delegated.overlapping(db, VMS.network, VMS.last.to_bytes(16), history.EVER, 9)
        assert list(delegated.of_clients(db, [LAPTOP], history.EVER, 9))
        term, values = queries.overlapping(VMS)
        assert db.execute(f"SELECT network FROM prefix_delegation WHERE {term}", values).fetchall()
        db.set_trace_callback(None)
        wanted = [statement for statement in asked_for if "history_length" not in statement]
        for statement in wanted:
            plan = [row[3] for row in db.execute(f"EXPLAIN QUERY PLAN {statement}")]
            assert not [step for step in plan if re.match(r"SCAN (history|prefix)_", step)], (statement, plan)
    assert len(wanted) == 4
