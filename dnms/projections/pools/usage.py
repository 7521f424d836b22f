"""All about one pool: what of it is in use, how fast it fills, and how likely it is that hashes meet in it."""

from __future__ import annotations

from datetime import datetime, timedelta
from math import fsum
from typing import Any

import aiosqlite
import msgspec

from dnms.domain.chances import any_of, expected_meetings, next_meets
from dnms.domain.document import range_text
from dnms.domain.forecast import room
from dnms.domain.ranges import HOST_BITS, is_whole_64
from dnms.events.ip import family, parse_address, parse_prefix
from dnms.events.plan import Pool, Stateless, Subnet
from dnms.projections.text import microseconds
from dnms.projections.views import Reading

DAY = timedelta(days=1)
MAX_DAYS = 365_000.0
"""A date beyond is none."""
HASHED = "hash"
"""The strategy whose candidates can meet."""


class Collisions(msgspec.Struct, frozen=True, kw_only=True):
    """Chances that a client's first candidate is not its own (requirement H4). Formulas: `dnms.domain.chances`."""

    space: int  # over how many addresses, or /64s, the hash of one group goes
    next: float  # that the next client's is taken, in the group that is fullest
    expected: float  # pairs of those that there are, summed over the groups
    any: float  # that there is such a pair


class PoolUsage(msgspec.Struct, frozen=True, kw_only=True):
    """A pool, its use as of the newest commit that the views have, and what is to be expected of it."""

    pool: str
    subnet: str
    range: str
    strategy: str
    family: int
    as_of: datetime
    size: int  # how many addresses (where each client has a /64: how many of these) can be given
    held: int
    resting: int  # declined or blocked, and their quarantine is not over
    reserved: int  # kept for clients that do not have them
    free: int
    nodes: int  # that hold some of it
    given_last_day: int
    ended_last_day: int
    exhausted: datetime | None  # of IPv4, if it goes on as in the last day
    collisions: Collisions | None  # where the strategy hashes


async def usage(reading: Reading, name: str) -> list[PoolUsage]:
    """The pools of this name: one, or several where it was moved from a subnet in which leases of it last."""
    rows = await reading.db.execute_fetchall(
        """
        SELECT p.name, p.subnet, p.first, p.last, p.strategy, p.prefix_per_host, s.definition
        FROM pool p LEFT JOIN pool_subnet s ON s.name = p.subnet
        LEFT JOIN address_count c ON c.subnet = p.subnet AND c.pool = p.name
        WHERE p.name = ? AND (NOT p.withdrawn OR c.held > 0) ORDER BY p.withdrawn, p.subnet
        """,
        (name,),
    )
    return [await _usage(reading, pool_of(row), subnet_of(row[6])) for row in rows]


def pool_of(row: Any) -> Pool:
    """A pool by name, subnet, first, last, strategy and whether every host has a prefix."""
    return Pool(name=row[0], subnet=row[1], first=row[2], last=row[3], strategy=row[4], prefix_per_host=bool(row[5]))


def subnet_of(definition: str | None) -> Subnet | None:
    """A subnet by its definition, as far as it says what can be given of its pools."""
    if definition is None:
        return None
    fields = msgspec.json.decode(definition, type=dict[str, Any])
    return Subnet(
        name=fields["name"],
        realm=fields["realm"],
        prefixes=tuple(map(parse_prefix, fields["prefixes"])),
        gateways=_gateways(fields),
        groups={name: Stateless(gateways=_gateways(told)) for name, told in fields.get("groups", {}).items()},
    )


def _gateways(fields: dict[str, Any]) -> tuple[bytes, ...]:
    return tuple(map(parse_address, fields.get("gateways") or ()))


async def _usage(reading: Reading, pool: Pool, subnet: Subnet | None) -> PoolUsage:
    now = microseconds(reading.position.time)
    values = {
        "subnet": pool.subnet,
        "first": pool.first,
        "last": pool.last,
        "now": now,
        "before": now - microseconds_of(DAY),
    }
    used = await _used(reading.db, values)
    given, ended = await _last_day(reading.db, values)
    held, resting, reserved, nodes = used
    size, kind = room(pool, subnet), family(pool.first)
    groups = await _groups(reading.db, values, pool)
    taken = sum(groups.values()) if pool.prefix_per_host else held + resting + reserved
    free, growth = max(0, size - taken), given - ended
    exhausted = None
    if kind == 4 and growth > 0:
        exhausted = reading.position.time + min(free / growth, MAX_DAYS) * DAY
    return PoolUsage(
        pool=pool.name,
        subnet=pool.subnet,
        range=range_text(pool),
        strategy=pool.strategy,
        family=kind,
        as_of=reading.position.time,
        size=size,
        held=held,
        resting=resting,
        reserved=reserved,
        free=free,
        nodes=nodes,
        given_last_day=given,
        ended_last_day=ended,
        exhausted=exhausted,
        collisions=_collisions(groups, pool, size) if pool.strategy == HASHED else None,
    )


def microseconds_of(duration: timedelta) -> int:
    """A duration as the log counts time."""
    return duration // timedelta(microseconds=1)


async def _used(db: aiosqlite.Connection, values: dict[str, Any]) -> tuple[int, int, int, int]:
    rows = await db.execute_fetchall(
        """
        SELECT count(*) FILTER (WHERE state = 'held'),
            count(*) FILTER (WHERE state != 'held' AND valid_until > :now),
            (SELECT count(*) FROM address_hold h WHERE h.subnet = :subnet AND h.address BETWEEN :first AND :last
                AND NOT EXISTS (SELECT 1 FROM address_lease l WHERE l.address = h.address AND l.subnet = h.subnet
                    AND (l.state = 'held' OR l.valid_until > :now))),
            count(DISTINCT client) FILTER (WHERE state = 'held')
        FROM address_lease WHERE subnet = :subnet AND address BETWEEN :first AND :last
        """,
        values,
    )
    [(held, resting, reserved, nodes)] = rows
    return held, resting, reserved, nodes


async def _last_day(db: aiosqlite.Connection, values: dict[str, Any]) -> tuple[int, int]:
    rows = await db.execute_fetchall(
        """
        SELECT count(*) FILTER (WHERE client IS NOT NULL), count(*) FILTER (WHERE client IS NULL)
        FROM history_lease WHERE address BETWEEN :first AND :last AND subnet = :subnet AND since > :before
        """,
        values,
    )
    [(given, ended)] = rows
    return given, ended


async def _groups(db: aiosqlite.Connection, values: dict[str, Any], pool: Pool) -> dict[Any, int]:
    """What is not free, by the part of the pool over which one hash goes."""
    if pool.prefix_per_host:
        what, by = "count(DISTINCT substr(address, 1, 8))", "0"
    else:
        what, by = "count(*)", "substr(address, 9, 2)" if is_whole_64(pool) else "0"
    rows = await db.execute_fetchall(
        f"""
        SELECT {by}, {what} FROM (
            SELECT address FROM address_lease
            WHERE subnet = :subnet AND address BETWEEN :first AND :last AND (state = 'held' OR valid_until > :now)
            UNION
            SELECT address FROM address_hold WHERE subnet = :subnet AND address BETWEEN :first AND :last
        ) GROUP BY 1
        """,
        values,
    )
    return {row[0]: row[1] for row in rows}


def _collisions(groups: dict[Any, int], pool: Pool, size: int) -> Collisions:
    """The birthday bound, group by group: those that share no address cannot meet."""
    space = 1 << HOST_BITS if is_whole_64(pool) and not pool.prefix_per_host else size
    return Collisions(
        space=space,
        next=next_meets(max(groups.values(), default=0), space),
        expected=fsum(expected_meetings(count, space) for count in groups.values()),
        any=any_of(fsum(expected_meetings(count, space) for count in groups.values())),
    )
