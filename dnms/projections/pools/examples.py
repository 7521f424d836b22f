"""Examples: what plans make of the tables."""

from __future__ import annotations

import msgspec

from dnms.events.ip import parse_prefix
from dnms.events.plan import (
    AdoptedPlan,
    Downlink,
    Group,
    GroupDefined,
    GroupWithdrawn,
    PlanAdopted,
    Pool,
    PoolDefined,
    PoolWithdrawn,
    Realm,
    RealmDefined,
    SiteDefined,
    Subnet,
    SubnetDefined,
    SubnetWithdrawn,
)
from dnms.projections.example import FIRST, SECOND, Example, happened

ABOVE = parse_prefix("2001:db8:100::/64")
CUT = Subnet(name="lan", realm="default", prefixes=(), downlink=Downlink(uplink="wan"))
RELATIVE = Pool(name="six", subnet="lan", first=bytes(16), last=bytes(15) + b"\x01")

_POOLS = "SELECT subnet, name, first, last, strategy, withdrawn, sequence FROM pool ORDER BY 1, 2"


def _subnet(name: str) -> SubnetDefined:
    return SubnetDefined(subnet=Subnet(name=name, realm="default", prefixes=(parse_prefix("2001:db8::/64"),)))


def _pool(subnet: str, last: bytes = FIRST) -> PoolDefined:
    return PoolDefined(pool=Pool(name="six", subnet=subnet, first=FIRST, last=last))


EXAMPLES = (
    Example(
        title="a plan, and a change of it",
        log=(
            happened(
                "plan",
                10,
                SiteDefined(name="example", level=1),
                RealmDefined(realm=Realm(name="default")),
                GroupDefined(group=Group(name="sales", number=23_070)),
                GroupDefined(group=Group(name="voice", number=7)),
                _subnet("lan"),
                _pool("lan"),
            ),
            happened("plan", 20, GroupWithdrawn(name="voice"), _pool("lan", SECOND)),
        ),
        rows={
            "SELECT name, level FROM pool_site": [("example", 1)],
            "SELECT name, number FROM pool_group": [("sales", 23_070)],
            "SELECT name, realm, definition FROM pool_subnet": [
                ("lan", "default", '{"name":"lan","realm":"default","prefixes":["2001:db8::/64"]}')
            ],
            _POOLS: [("lan", "six", FIRST, SECOND, "hash", 0, 2)],
        },
    ),
    Example(
        title="a withdrawn pool stays, for its leases end later; one that moves leaves one behind",
        log=(
            happened("plan", 10, _subnet("east"), _subnet("west"), _pool("east")),
            happened("plan", 20, _pool("west")),
            happened("plan", 30, PoolWithdrawn(name="six"), SubnetWithdrawn(name="west")),
        ),
        rows={
            _POOLS: [("east", "six", FIRST, FIRST, "hash", 1, 1), ("west", "six", FIRST, FIRST, "hash", 1, 2)],
            "SELECT name FROM pool_subnet": [("east",)],
        },
    ),
    Example(
        title="a pool in ::/64 is where its ledger has it, once something came from above",
        log=(
            happened("plan", 10, SubnetDefined(subnet=CUT), PoolDefined(pool=RELATIVE)),
            happened(
                "ledger.lan",
                20,
                PlanAdopted(
                    plan=AdoptedPlan(
                        position=1,
                        level=1,
                        subnet=msgspec.structs.replace(CUT, prefixes=(ABOVE,)),
                        pools=(msgspec.structs.replace(RELATIVE, first=ABOVE.network, last=FIRST),),
                        cut=(ABOVE,),
                        relative=(RELATIVE,),
                    )
                ),
            ),
        ),
        rows={
            _POOLS: [("lan", "six", ABOVE.network, FIRST, "hash", 0, 1)],
            "SELECT definition FROM pool_subnet": [
                ('{"name":"lan","realm":"default","prefixes":["2001:db8:100::/64"],"downlink":{"uplink":"wan"}}',)
            ],
        },
    ),
    Example(
        title="what a ledger adopts is the plan's own, and changes nothing here",
        log=(happened("ledger.lan", 10, PlanAdopted(plan=AdoptedPlan(position=1, level=1))),),
        rows={_POOLS: [], "SELECT * FROM pool_site": []},
    ),
)
