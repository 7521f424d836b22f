"""Questions about rollouts."""

from __future__ import annotations

from datetime import datetime

import aiosqlite
import msgspec

from dnms.projections.text import instant


class RolloutRow(msgspec.Struct, frozen=True, kw_only=True):
    """The newest rollout of a subnet."""

    subnet: str
    plan: int  # position of the plan that it brings
    status: str  # running, paused, stopped, aborted, or over: proven, replaced
    wave: str  # canaries, or how many of a hundred nodes
    told: int  # nodes that are told what the plan says
    proven: int  # of these have said that they have it
    stopped_by: str | None  # the node that could not take it, by its name or client id
    stopped_why: str  # rolled-back, refused, silent
    began: datetime
    changed: datetime


async def rollouts(db: aiosqlite.Connection, *, subnet: str | None = None) -> list[RolloutRow]:
    """Those of all subnets that ever had one, or of one."""
    rows = await db.execute_fetchall(
        "SELECT r.subnet, r.plan, r.status, r.wave, r.canaries, r.waves, r.told, r.proven, r.stopped_by, n.name,"
        " r.stopped_why, r.began, r.changed FROM rollout r LEFT JOIN node n ON n.client = r.stopped_by"
        " WHERE :subnet IS NULL OR r.subnet = :subnet ORDER BY r.subnet",
        {"subnet": subnet},
    )
    return [
        RolloutRow(
            subnet=row[0],
            plan=row[1],
            status=row[2],
            wave=_wave(row[3], row[4], msgspec.json.decode(row[5], type=list[int])),
            told=row[6],
            proven=row[7],
            stopped_by=None if row[8] is None else row[9] or row[8].hex(),
            stopped_why=row[10],
            began=instant(row[11]),
            changed=instant(row[12]),
        )
        for row in rows
    ]


def _wave(number: int, canaries: int, waves: list[int]) -> str:
    if canaries and not number:
        return "canary" if canaries == 1 else f"{canaries} canaries"
    return f"{waves[min(number - bool(canaries), len(waves) - 1)]} %" if waves else "all"
