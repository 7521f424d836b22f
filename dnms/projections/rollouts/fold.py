"""The newest rollout of each ledger."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import msgspec

from dnms.events.commit import Stored
from dnms.events.plan import PlanAdopted
from dnms.events.recorded import Event
from dnms.events.rollout import (
    RolloutAborted,
    RolloutAdvanced,
    RolloutBegun,
    RolloutEnded,
    RolloutPaused,
    RolloutProven,
    RolloutResumed,
    RolloutStopped,
    RolloutTold,
)
from dnms.projections.projection import place
from dnms.projections.versions import Rows, Table

ROLLOUT = Table(
    name="rollout",
    key={"subnet": "TEXT NOT NULL"},
    columns={
        "plan": "INTEGER NOT NULL",  # position of the plan that it brings
        "status": "TEXT NOT NULL",  # running, paused, stopped, aborted, proven, replaced
        "wave": "INTEGER NOT NULL",
        "canaries": "INTEGER NOT NULL",
        "waves": "TEXT NOT NULL",  # percentages, as JSON
        "told": "INTEGER NOT NULL",  # nodes
        "proven": "INTEGER NOT NULL",  # of these
        "stopped_by": "BLOB",
        "stopped_why": "TEXT NOT NULL",
        "began": "INTEGER NOT NULL",
        "changed": "INTEGER NOT NULL",
    },
)
SCHEMA = ROLLOUT.schema
INDEXES = ROLLOUT.asked_by
PAST = (ROLLOUT.past,)

STATUS: Final[dict[type[Event], str]] = {
    RolloutPaused: "paused",
    RolloutResumed: "running",
    RolloutAborted: "aborted",
    RolloutStopped: "stopped",
}
TYPES: frozenset[type[Event]] = frozenset(
    {*STATUS, RolloutBegun, RolloutTold, RolloutProven, RolloutAdvanced, RolloutEnded, PlanAdopted}
)


class _Rollout(NamedTuple):
    """A row behind its key."""

    plan: int
    status: str
    wave: int
    canaries: int
    waves: str
    told: int
    proven: int
    stopped_by: bytes | None
    stopped_why: str
    began: int
    changed: int


def fold(cursor: sqlite3.Cursor, batch: Sequence[Stored]) -> None:
    """Take in what becomes of new plans."""
    rollouts = Rows(cursor, ROLLOUT, _Rollout)
    for stored in batch:
        where, at = place(stored.subject), stored.commit.time
        if where.family != "ledger":
            continue
        for event in stored.commit.events:
            if type(event) in TYPES:
                after = _after(rollouts.get(where.subnet), event, at)
                rollouts.set(after, where.subnet, sequence=stored.sequence)
    rollouts.write()


def _after(before: _Rollout | None, event: Any, at: int) -> _Rollout | None:  # noqa: PLR0911  # one return a case
    if isinstance(event, RolloutBegun):
        return _Rollout(event.position, "running", 0, 0, "[]", 0, 0, None, "", at, at)
    if before is None:
        return None
    if isinstance(event, PlanAdopted):
        subnet = event.plan.subnet
        if event.plan.position != before.plan or subnet is None or subnet.rollout is None:
            return before
        waves = msgspec.json.encode(subnet.rollout.waves).decode()
        return before._replace(canaries=subnet.rollout.canaries, waves=waves)
    now = before._replace(changed=at, status=STATUS.get(type(event), before.status))
    match event:
        case RolloutTold():
            return now._replace(told=now.told + len(event.clients))
        case RolloutProven():
            return now._replace(proven=now.proven + len(event.clients))
        case RolloutAdvanced():
            return now._replace(wave=event.wave)
        case RolloutStopped():
            return now._replace(stopped_by=event.client, stopped_why=event.why)
        case RolloutResumed():
            return now._replace(stopped_by=None, stopped_why="")
        case RolloutEnded():
            return now._replace(status=event.why)
    return now
