"""Questions about what is seen on the links."""

from __future__ import annotations

from datetime import datetime

import aiosqlite
import msgspec

from dnms.events.ip import Prefix, format_address
from dnms.projections.text import instant, instant_or_none, position

MAX_SIGHTED = 10_000  # in one answer; a caller pages on with `after`

NOBODY = bytes(16)


class SightedRow(msgspec.Struct, frozen=True, kw_only=True):
    """An address with which a machine is seen on a link that was not given it."""

    address: str
    subnet: str
    client: str  # hex
    node: str | None  # its name, or else its hardware address, or its DUID
    form: str  # eui-64, low, link-local, random, ipv4
    lasting: str  # stable, temporary, unknown
    sure: str  # certain, likely, guess
    since: datetime
    recorded: datetime  # when it was seen, as the log was told last
    until: datetime  # it is kept from others until then, if nobody sees it again
    opened: str  # position of the event


class AlarmRow(msgspec.Struct, frozen=True, kw_only=True):
    """Something that is wrong on a link, or was."""

    alarm: str  # duplicate, moved, dhcp-server, router, scan
    subnet: str
    address: str | None
    client: str | None  # hex; who has the address too, who has it now, the server, the router, who scans
    node: str | None  # its name, or else its hardware address, or its DUID
    other: str | None  # hex; who has the address as well, or had it before
    other_node: str | None
    prefix: str | None  # that is scanned, that a router advertises and the link does not have
    why: str
    since: datetime
    cleared: datetime | None  # None: it is so now
    ended: str  # why it was cleared: over, planned
    opened: str  # position of the event


_SHOWN = "coalesce(nullif({0}.name, ''), json_extract({0}.hardware, '$[0]'), {0}.duid)"
"""Of a node: what people know it by."""


async def sighted(
    db: aiosqlite.Connection,
    *,
    subnet: str | None = None,
    address: bytes | None = None,
    after: tuple[bytes, str] = (b"", ""),
    limit: int = 1_000,
) -> list[SightedRow]:
    """Addresses that are seen, in their order, behind the address and subnet `after`."""
    rows = await db.execute_fetchall(
        f"""
        SELECT s.address, s.subnet, s.client, {_SHOWN.format("n")}, s.form, s.lasting, s.sure, s.since, s.recorded,
            s.until, s.opened_sequence, s.opened_index
        FROM link_sighted s LEFT JOIN node n ON n.client = s.client
        WHERE (:subnet IS NULL OR s.subnet = :subnet) AND (:address IS NULL OR s.address = :address)
            AND (s.address, s.subnet) > (:after, :behind)
        ORDER BY s.address, s.subnet LIMIT :limit
        """,
        {
            "subnet": subnet,
            "address": address,
            "after": after[0],
            "behind": after[1],
            "limit": max(1, min(limit, MAX_SIGHTED)),
        },
    )
    return [
        SightedRow(
            address=format_address(row[0]),
            subnet=row[1],
            client=row[2].hex(),
            node=row[3],
            form=row[4],
            lasting=row[5],
            sure=row[6],
            since=instant(row[7]),
            recorded=instant(row[8]),
            until=instant(row[9]),
            opened=position(row[10], row[11]),
        )
        for row in rows
    ]


async def alarms(db: aiosqlite.Connection, *, subnet: str | None = None, cleared: bool = False) -> list[AlarmRow]:
    """What is wrong now, the newest first; `cleared`: and the last of each kind and address that is over."""
    rows = await db.execute_fetchall(
        f"""
        SELECT a.alarm, a.subnet, a.address, a.client, {_SHOWN.format("n")}, a.other, {_SHOWN.format("o")},
            a.network, a.length, a.why, a.since, a.cleared, a.ended, a.opened_sequence, a.opened_index
        FROM link_alarm a LEFT JOIN node n ON n.client = a.client LEFT JOIN node o ON o.client = a.other
        WHERE (:subnet IS NULL OR a.subnet = :subnet) AND (:cleared OR a.cleared IS NULL)
        ORDER BY a.opened_sequence DESC, a.opened_index DESC
        """,
        {"subnet": subnet, "cleared": cleared},
    )
    return [
        AlarmRow(
            alarm=row[0],
            subnet=row[1],
            address=format_address(row[2]) if any(row[2]) else None,
            client=row[3].hex() if row[3] != NOBODY else None,
            node=row[4],
            other=None if row[5] is None else row[5].hex(),
            other_node=row[6],
            prefix=None if row[7] is None else str(Prefix(row[7], row[8])),
            why=row[9],
            since=instant(row[10]),
            cleared=instant_or_none(row[11]),
            ended=row[12],
            opened=position(row[13], row[14]),
        )
        for row in rows
    ]
