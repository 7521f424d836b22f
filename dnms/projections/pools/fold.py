"""The plan as tables."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from dnms.events.commit import Stored
from dnms.events.plan import (
    GroupDefined,
    GroupWithdrawn,
    PoolDefined,
    PoolWithdrawn,
    SiteDefined,
    SubnetDefined,
    SubnetWithdrawn,
)
from dnms.projections.projection import place
from dnms.projections.text import to_json

SCHEMA = """
CREATE TABLE pool_site (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    name TEXT NOT NULL,
    level INTEGER NOT NULL
);
CREATE TABLE pool_group (
    name TEXT PRIMARY KEY,
    number INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX pool_group_number ON pool_group (number);
CREATE TABLE pool_subnet (
    name TEXT PRIMARY KEY,
    realm TEXT NOT NULL,
    definition TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE pool (
    subnet TEXT NOT NULL,
    name TEXT NOT NULL,
    first BLOB NOT NULL,
    last BLOB NOT NULL,
    strategy TEXT NOT NULL,
    preferred INTEGER NOT NULL,
    valid INTEGER NOT NULL,
    quarantine INTEGER NOT NULL,
    prefix_per_host INTEGER NOT NULL,
    withdrawn INTEGER NOT NULL,   -- stays in the table, for its leases end later
    sequence INTEGER NOT NULL,
    PRIMARY KEY (subnet, name)
) WITHOUT ROWID;
CREATE INDEX pool_name ON pool (name);
"""


def fold(cursor: sqlite3.Cursor, batch: Sequence[Stored]) -> None:
    """Take in the plan. It changes rarely, so a statement an event."""
    for stored in batch:
        if place(stored.subject).family != "plan":
            continue
        for event in stored.commit.events:
            match event:
                case SiteDefined():
                    cursor.execute("INSERT OR REPLACE INTO pool_site VALUES (1, ?, ?)", (event.name, event.level))
                case GroupDefined(group=group):
                    cursor.execute("INSERT OR REPLACE INTO pool_group VALUES (?, ?)", (group.name, group.number))
                case GroupWithdrawn():
                    cursor.execute("DELETE FROM pool_group WHERE name = ?", (event.name,))
                case SubnetDefined(subnet=subnet):
                    cursor.execute(
                        "INSERT OR REPLACE INTO pool_subnet VALUES (?, ?, ?)",
                        (subnet.name, subnet.realm, to_json(subnet)),
                    )
                case SubnetWithdrawn():
                    cursor.execute("DELETE FROM pool_subnet WHERE name = ?", (event.name,))
                case PoolDefined(pool=pool):
                    # A pool that moves to another subnet leaves one behind that is withdrawn.
                    cursor.execute("UPDATE pool SET withdrawn = 1 WHERE name = ?", (pool.name,))
                    cursor.execute(
                        "INSERT OR REPLACE INTO pool VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, 0, ?)",
                        (
                            pool.subnet,
                            pool.name,
                            pool.first,
                            pool.last,
                            pool.strategy,
                            pool.preferred,
                            pool.valid,
                            pool.quarantine,
                            pool.prefix_per_host,
                            stored.sequence,
                        ),
                    )
                case PoolWithdrawn():
                    cursor.execute("UPDATE pool SET withdrawn = 1 WHERE name = ?", (event.name,))
                case _:
                    pass
