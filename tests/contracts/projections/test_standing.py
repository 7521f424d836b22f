"""Who has to apply the newest event of something, and whether each did."""

from __future__ import annotations

from pathlib import Path

import pytest

from dnms.events.address import AddressAllocated, AddressReleased, AddressRenewed
from dnms.events.configuration import Generation
from dnms.events.effect import EffectApplied, EffectCalled, EffectFailed
from dnms.events.ip import parse_address, parse_prefix
from dnms.events.node import NodeArrived, NodeIdentified
from dnms.events.plan import Downlink, Subnet, SubnetDefined
from dnms.events.prefix import PrefixDelegated, PrefixReleased, PrefixRenewed
from dnms.events.recorded import Personal
from dnms.events.seen import AppliedItem, ConfigurationApplied
from dnms.projections.effects.standing import Entity, Nothing, StandingRow, addressed, standing
from dnms.projections.example import ALICE, BOB, SITE, Happened, happened
from dnms.projections.runner import rebuild
from dnms.projections.views import Views
from tests.contracts.projections.logs import memory_log, write

ADDRESS, HOP = map(parse_address, ("2001:db8::a", "fe80::a"))
PREFIX = parse_prefix("2001:db8:0:10::/60")
NODE = Entity("alice", (ALICE,))


def subnet(*routers: str) -> Happened:
    link = Subnet(
        name="home", realm="default", prefixes=(parse_prefix("2001:db8::/64"),), downlink=Downlink(routers=routers)
    )
    return happened("plan", 10, SubnetDefined(subnet=link))


def leased(client: bytes = ALICE) -> Happened:
    lease = AddressAllocated(address=ADDRESS, client=client, iaid=1, pool="p", valid_until=90, horizon=90)
    return happened("ledger.home", 20, lease)


def delegated() -> Happened:
    event = PrefixDelegated(
        prefix=PREFIX, client=ALICE, iaid=1, delegation="d", next_hop=HOP, valid_until=90, horizon=90
    )
    return happened("ledger.home", 20, event)


def applied(ledger: int, *, outcome: str = "usable", unproven: bool = False, why: str = "") -> Happened:
    event = ConfigurationApplied(
        client=ALICE,
        generation=Generation(0, 1, ledger),
        items=(AppliedItem(address=ADDRESS, outcome=outcome),),
        unproven=unproven,
        why=why,
    )
    return happened("seen.home.east", 30, event)


async def asked(
    path: Path, log: list[Happened], what: str, entity: Entity = NODE, instances: tuple[str, ...] = ()
) -> list[StandingRow]:
    written = memory_log()
    await write(written, *log)
    await rebuild(written, path, site=SITE)
    views = Views(path)
    try:
        async with views.read() as reading:
            return await standing(reading.db, entity, what.split(","), instances)
    finally:
        await views.close()


@pytest.mark.parametrize(
    ("last", "has", "done", "why"),
    [
        (applied(1), 1, False, ""),
        (applied(2), 2, True, ""),
        (applied(7), 7, True, ""),
        (applied(2, unproven=True), 2, False, "it is still to prove itself"),
        (applied(2, outcome="duplicate"), 2, False, "2001:db8::a duplicate"),
        (applied(2, outcome="no-time-service"), 2, True, ""),
        (applied(2, outcome="rolled-back", why="gateway"), 2, False, "gateway"),
        (happened("node.0a", 30, NodeArrived(client=ALICE, subnet="home")), 0, False, ""),
    ],
)
async def test_a_node_is_configured_once_it_says_that_what_it_was_told_then_can_be_used(
    path: Path, last: Happened, has: int, done: bool, why: str
) -> None:
    [row] = await asked(path, [subnet(), leased(), last], "configured")
    assert row == StandingRow(what="configured", who=f"{ALICE.hex()} on home", position=2, has=has, done=done, why=why)


async def test_a_renewal_and_an_end_that_the_node_brought_about_tell_it_nothing(path: Path) -> None:
    renewed = AddressRenewed(address=ADDRESS, client=ALICE, iaid=1, valid_until=95, horizon=95)
    released = AddressReleased(address=ADDRESS, client=ALICE, iaid=1)
    log = [subnet(), leased(), applied(2), happened("ledger.home", 40, renewed), happened("ledger.home", 50, released)]
    for entity in (NODE, Entity("a", address=ADDRESS)):
        [row] = await asked(path, log, "configured", entity)
        assert (row.position, row.done) == (2, True)


async def test_an_address_is_that_of_who_had_it_last(path: Path) -> None:
    log = [subnet(), leased(), applied(2), leased(BOB)]
    [row] = await asked(path, log, "configured", Entity("a", address=ADDRESS))
    assert (row.who, row.position, row.done) == (f"{BOB.hex()} on home", 4, False)


async def test_routes_are_those_of_the_routers_that_the_plan_names(path: Path) -> None:
    log = [subnet("border", "spare"), delegated(), happened("effect.routes.border", 30, EffectApplied(position=2))]
    for entity in (NODE, Entity("p", prefix=PREFIX)):
        border, spare = await asked(path, log, "routes", entity)
        assert (border.who, border.has, border.done) == ("border", 2, True)
        assert (spare.who, spare.has, spare.done, spare.why) == ("spare", 0, False, "it has never said anything")
    log += [happened("ledger.home", 40, PrefixReleased(prefix=PREFIX, client=ALICE, iaid=1, next_hop=HOP))]
    border, _ = await asked(path, log, "routes")
    assert (border.position, border.done) == (4, False)
    [named] = await asked(path, log, "routes", instances=("other",))
    assert (named.who, named.done) == ("other", False)


async def test_the_newest_plan_names_them(path: Path) -> None:
    log = [subnet("border"), delegated(), subnet("spare")]
    assert [row.who for row in await asked(path, log, "routes")] == ["spare"]


async def test_a_renewal_may_lead_elsewhere(path: Path) -> None:
    renewed = PrefixRenewed(prefix=PREFIX, client=ALICE, iaid=1, next_hop=ADDRESS, valid_until=95, horizon=95)
    log = [subnet("border"), delegated(), happened("ledger.home", 40, renewed)]
    assert [row.position for row in await asked(path, log, "routes")] == [3]


async def test_of_other_subscribers_all_that_ever_ran_are_asked(path: Path) -> None:
    identified = NodeIdentified(client=ALICE, duid=Personal(b"d"), name=Personal("alice"))
    log = [
        leased(),
        happened("effect.firewall.gate", 30, EffectApplied(position=3)),
        happened("effect.firewall.host", 30, EffectApplied(position=1), EffectFailed(position=1, why="w", text="t")),
        happened("effect.webhook.gate", 30, EffectCalled(position=9)),
    ]
    [gate, host, hook] = await asked(path, log, "firewall,webhook")
    assert [row.who for row in (gate, host, hook)] == ["gate", "host", "gate"]
    assert (gate.done, host.done, host.why, hook.done) == (True, True, "w, t", True)
    [gate, host] = await asked(path, [*log, happened("node.0a", 40, identified)], "firewall")
    assert (gate.position, gate.done, host.done) == (5, False, False)
    [nobody] = await asked(path, log, "door")
    assert (nobody.who, nobody.done) == ("", False)


@pytest.mark.parametrize(
    ("what", "log", "entity", "why"),
    [
        ("configured", [subnet()], NODE, "alice has had nothing that configured could apply"),
        ("routes", [subnet("border"), leased()], NODE, "alice has had nothing that routes could apply"),
        ("routes", [subnet(), delegated()], NODE, "the plan names no routers for the subnet home"),
        ("firewall", [leased()], Entity("p", prefix=PREFIX), "p has had nothing that firewall could apply"),
    ],
)
async def test_where_nothing_can_come_nobody_waits(
    path: Path, what: str, log: list[Happened], entity: Entity, why: str
) -> None:
    with pytest.raises(Nothing, match=why):
        await asked(path, log, what, entity)


def test_a_text_is_an_address_a_prefix_or_a_name() -> None:
    assert addressed("2001:db8::a") == Entity("2001:db8::a", address=ADDRESS)
    assert addressed("2001:db8:0:10::/60") == Entity("2001:db8:0:10::/60", prefix=PREFIX)
    assert addressed("laptop") is None
