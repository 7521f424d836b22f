"""The waves of a rollout, as people write them in a plan."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

from dnms.domain.written import Table
from dnms.events.plan import Percent, Rollout, Seconds


class RolloutTable(Table, kw_only=True):
    """`[subnet.rollout]`."""

    canaries: Annotated[int, msgspec.Meta(ge=0, le=1_000)] = 1
    waves: Annotated[list[Percent], msgspec.Meta(min_length=1, max_length=100)] = msgspec.field(
        default_factory=lambda: [10, 50, 100]
    )
    pause: Annotated[int, msgspec.Meta(ge=0, lt=1 << 32)] = 60
    within: Seconds = 300


def rollout_of(table: RolloutTable | None) -> Rollout | None:
    """As the plan has it. ValueError if the waves do not grow to 100."""
    if table is None:
        return None
    if table.waves != sorted(set(table.waves)) or table.waves[-1] != 100:
        raise ValueError("expected growing percentages, the last of them 100")
    return Rollout(canaries=table.canaries, waves=tuple(table.waves), pause=table.pause, within=table.within)


def table_of(rollout: Rollout) -> dict[str, Any]:
    """As it is written."""
    return {
        "canaries": rollout.canaries,
        "waves": list(rollout.waves),
        "pause": rollout.pause,
        "within": rollout.within,
    }
