"""Examples: what a rollout makes of the journal."""

from __future__ import annotations

from dnms.events.plan import AdoptedPlan, PlanAdopted, Rollout, Subnet
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
from dnms.projections.example import ALICE, BOB, Example, happened

_ROWS = "SELECT subnet, plan, status, wave, waves, told, proven, stopped_by, stopped_why, began, changed FROM rollout"


def _begun(position: int) -> tuple[RolloutBegun, PlanAdopted]:
    subnet = Subnet(name="lan", realm="default", prefixes=(), rollout=Rollout(canaries=1, waves=(50, 100)))
    return RolloutBegun(position=position), PlanAdopted(plan=AdoptedPlan(position=position, level=1, subnet=subnet))


EXAMPLES = (
    Example(
        title="a rollout is stopped by a node, goes on, and ends",
        log=(
            happened("ledger.lan", 10, *_begun(7)),
            happened("ledger.lan", 20, RolloutTold(position=7, clients=(ALICE,))),
            happened("ledger.lan", 30, RolloutStopped(position=7, client=ALICE, why="rolled-back")),
            happened("ledger.lan", 40, RolloutResumed(position=7)),
            happened("ledger.lan", 50, RolloutAdvanced(position=7, wave=1)),
            happened("ledger.lan", 60, RolloutTold(position=7, clients=(BOB,))),
            happened("ledger.lan", 70, RolloutProven(position=7, clients=(BOB,))),
            happened("ledger.lan", 80, RolloutEnded(position=7, why="proven")),
        ),
        rows={_ROWS: [("lan", 7, "proven", 1, "[50,100]", 2, 1, None, "", 10, 80)]},
    ),
    Example(
        title="who stopped it is there until it goes on, and an operator puts all back",
        log=(
            happened("ledger.lan", 10, *_begun(7)),
            happened("ledger.lan", 20, RolloutTold(position=7, clients=(ALICE,))),
            happened("ledger.lan", 25, RolloutPaused(position=7)),
            happened("ledger.lan", 26, RolloutResumed(position=7)),
            happened("ledger.lan", 30, RolloutStopped(position=7, client=ALICE, why="silent")),
            happened("ledger.lan", 40, RolloutAborted(position=7)),
            happened("ledger.barn", 50, *_begun(7)),
        ),
        rows={
            f"{_ROWS} ORDER BY subnet": [
                ("barn", 7, "running", 0, "[50,100]", 0, 0, None, "", 50, 50),
                ("lan", 7, "aborted", 0, "[50,100]", 1, 0, ALICE, "silent", 10, 40),
            ]
        },
    ),
)
