"""The plan as tables."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import NamedTuple

from dnms.events.commit import Stored
from dnms.events.plan import (
    AdoptedPlan,
    GroupDefined,
    GroupWithdrawn,
    PlanAdopted,
    PoolDefined,
    PoolWithdrawn,
    SiteDefined,
    SubnetDefined,
    SubnetWithdrawn,
)
from dnms.events.recorded import Event
from dnms.projections.projection import place
from dnms.projections.text import to_json
from dnms.projections.versions import Rows, Table

SITE = Table(
    name="pool_site", key={"one": "INTEGER NOT NULL"}, columns={"name": "TEXT NOT NULL", "level": "INTEGER NOT NULL"}
)
GROUP = Table(
    name="pool_group", key={"name": "TEXT NOT NULL"}, columns={"number": "INTEGER NOT NULL"}, indexes=("number",)
)
SUBNET = Table(
    name="pool_subnet",
    key={"name": "TEXT NOT NULL"},
    columns={"realm": "TEXT NOT NULL", "definition": "TEXT NOT NULL"},
)
POOL = Table(
    name="pool",
    key={"name": "TEXT NOT NULL", "subnet": "TEXT NOT NULL"},
    columns={
        "first": "BLOB NOT NULL",
        "last": "BLOB NOT NULL",
        "strategy": "TEXT NOT NULL",
        "preferred": "INTEGER NOT NULL",
        "valid": "INTEGER NOT NULL",
        "quarantine": "INTEGER NOT NULL",
        "prefix_per_host": "INTEGER NOT NULL",
        "withdrawn": "INTEGER NOT NULL",  # stays in the table, for its leases end later
        "sequence": "INTEGER NOT NULL",
    },
    indexes=("subnet",),
)
TABLES = (SITE, GROUP, SUBNET, POOL)
SCHEMA = "".join(table.schema for table in TABLES)
INDEXES = tuple(statement for table in TABLES for statement in table.asked_by)
PAST = tuple(table.past for table in TABLES)


class _Site(NamedTuple):
    name: str
    level: int


class _Group(NamedTuple):
    number: int


class _Subnet(NamedTuple):
    realm: str
    definition: str


class _Pool(NamedTuple):
    first: bytes
    last: bytes
    strategy: str
    preferred: int
    valid: int
    quarantine: int
    prefix_per_host: int
    withdrawn: int
    sequence: int


KINDS: frozenset[type[Event]] = frozenset(
    {SiteDefined, GroupDefined, GroupWithdrawn, SubnetDefined, SubnetWithdrawn, PoolDefined, PoolWithdrawn, PlanAdopted}
)


def fold(cursor: sqlite3.Cursor, batch: Sequence[Stored]) -> None:  # noqa: PLR0912  # one case an event
    """Take in the plan, and what ledgers have made of it where its prefixes come from above."""
    sites, groups = Rows(cursor, SITE, _Site), Rows(cursor, GROUP, _Group)
    subnets, pools = Rows(cursor, SUBNET, _Subnet), Rows(cursor, POOL, _Pool)
    for stored in batch:
        if place(stored.subject).family not in ("plan", "ledger"):
            continue
        sequence = stored.sequence
        for event in stored.commit.events:
            match event:
                case SiteDefined():
                    sites.set(_Site(event.name, event.level), 1, sequence=sequence)
                case GroupDefined(group=group):
                    groups.set(_Group(group.number), group.name, sequence=sequence)
                case GroupWithdrawn():
                    groups.set(None, event.name, sequence=sequence)
                case SubnetDefined(subnet=subnet):
                    subnets.set(_Subnet(subnet.realm, to_json(subnet)), subnet.name, sequence=sequence)
                case SubnetWithdrawn():
                    subnets.set(None, event.name, sequence=sequence)
                case PoolDefined(pool=pool):
                    _withdraw(pools, pool.name, sequence)  # one that moves to another subnet leaves one behind
                    row = _Pool(
                        pool.first,
                        pool.last,
                        pool.strategy,
                        pool.preferred,
                        pool.valid,
                        pool.quarantine,
                        pool.prefix_per_host,
                        0,
                        sequence,
                    )
                    pools.set(row, pool.name, pool.subnet, sequence=sequence)
                case PoolWithdrawn():
                    _withdraw(pools, event.name, sequence)
                case PlanAdopted(plan=plan) if plan.subnet is not None and plan.subnet.downlink.uplink:
                    subnet = plan.subnet
                    subnets.set(_Subnet(subnet.realm, to_json(subnet)), subnet.name, sequence=sequence)
                    _place(pools, plan, sequence)
                case _:
                    pass
    for rows in (sites, groups, subnets, pools):
        rows.write()


def _place(pools: Rows[_Pool], plan: AdoptedPlan, sequence: int) -> None:
    """The pools of a link have their ranges in what comes from above; a pool in ::/64 has nothing of that yet."""
    placed = {pool.name: pool for pool in plan.relative} | {pool.name: pool for pool in plan.pools}
    for pool in placed.values():
        row = pools.get(pool.name, pool.subnet)
        if row is not None:
            pools.set(row._replace(first=pool.first, last=pool.last), pool.name, pool.subnet, sequence=sequence)


def _withdraw(pools: Rows[_Pool], name: str, sequence: int) -> None:
    for key, row in pools.under(name).items():
        pools.set(row._replace(withdrawn=1), *key, sequence=sequence)
