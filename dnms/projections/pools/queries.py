"""Questions about the site, its groups, subnets and pools."""

from __future__ import annotations

from typing import Any

import aiosqlite
import msgspec

from dnms.domain.document import range_text
from dnms.domain.forecast import room
from dnms.projections.pools.usage import pool_of, subnet_of


class PoolRow(msgspec.Struct, frozen=True, kw_only=True):
    """A pool with how much of it is in use."""

    pool: str
    subnet: str
    range: str
    strategy: str
    size: int  # how many addresses (where each client has a /64: how many of these) can be given
    held: int
    declined: int  # whose last word was a decline, or that somebody else was seen with them
    resting: int  # of these in its range, which nobody gets yet, since their quarantine has not ended
    withdrawn: bool  # from the plan, while leases of it last
    reserved: int = 0  # kept for clients that do not have them, so that nobody else is given them


class SiteRow(msgspec.Struct, frozen=True, kw_only=True):
    """The site as the plan has it."""

    name: str
    level: int
    subnets: list[str]
    groups: dict[str, int]


async def pools(db: aiosqlite.Connection, *, at: int, subnet: str | None = None) -> list[PoolRow]:
    """The plan's pools, and withdrawn ones that still have leases. `at` is now, in microseconds since 1970."""
    rows = await db.execute_fetchall(
        """
        SELECT p.name, p.subnet, p.first, p.last, p.strategy, p.prefix_per_host, s.definition,
            coalesce(c.held, 0), coalesce(c.declined, 0), p.withdrawn,
            (SELECT count(*) FROM address_lease a WHERE a.subnet = p.subnet AND a.state != 'held'
             AND a.address BETWEEN p.first AND p.last AND a.horizon > :at),
            (SELECT count(*) FROM address_hold h WHERE h.subnet = p.subnet AND h.address BETWEEN p.first AND p.last
             AND NOT EXISTS (SELECT 1 FROM address_lease l WHERE l.address = h.address AND l.subnet = h.subnet
                 AND (l.state = 'held' OR l.horizon > :at)))
        FROM pool p LEFT JOIN pool_subnet s ON s.name = p.subnet
        LEFT JOIN address_count c ON c.subnet = p.subnet AND c.pool = p.name
        WHERE (NOT p.withdrawn OR c.held > 0) AND (:subnet IS NULL OR p.subnet = :subnet)
        ORDER BY p.subnet, p.name
        """,
        {"subnet": subnet, "at": at},
    )
    return [
        PoolRow(
            pool=row[0],
            subnet=row[1],
            range=range_text(pool_of(row)),
            strategy=row[4],
            size=room(pool_of(row), subnet_of(row[6])),
            held=row[7],
            declined=row[8],
            withdrawn=bool(row[9]),
            resting=row[10],
            reserved=row[11],
        )
        for row in rows
    ]


async def site(db: aiosqlite.Connection) -> SiteRow | None:
    """The site; None until a plan names it."""
    rows = list(await db.execute_fetchall("SELECT name, level FROM pool_site"))
    if not rows:
        return None
    subnets = await db.execute_fetchall("SELECT name FROM pool_subnet ORDER BY name")
    groups = await db.execute_fetchall("SELECT name, number FROM pool_group ORDER BY name")
    return SiteRow(
        name=rows[0][0],
        level=rows[0][1],
        subnets=[row[0] for row in subnets],
        groups={row[0]: row[1] for row in groups},
    )


async def subnets(db: aiosqlite.Connection) -> list[dict[str, Any]]:
    """The plan's subnets, with the fields of `events.plan.Subnet`."""
    rows = await db.execute_fetchall("SELECT definition FROM pool_subnet ORDER BY name")
    return [msgspec.json.decode(row[0], type=dict[str, Any]) for row in rows]
