"""Examples: what is counted in which hour and subnet."""

from __future__ import annotations

from dnms.events.node import NodeArrived, NodeReady
from dnms.events.plan import PoolWithdrawn
from dnms.events.seen import SessionClosed
from dnms.projections.activity.fold import HOUR
from dnms.projections.example import ALICE, BOB, Example, happened

_ROWS = "SELECT hour, subnet, name, events FROM activity JOIN activity_series ON id = series ORDER BY 1, 2, 3"

EXAMPLES = (
    Example(
        title="events of one hour are one row for each subnet and kind",
        log=(
            happened("seen.lan.east", HOUR, SessionClosed(client=ALICE, why="bye")),
            happened("seen.lan.west", 2 * HOUR - 1, SessionClosed(client=BOB, why="bye")),
            happened("seen.lab.west", HOUR + 1, SessionClosed(client=BOB, why="bye")),
            happened("seen.lan.east", 2 * HOUR, SessionClosed(client=ALICE, why="bye")),
        ),
        rows={
            _ROWS: [
                (1, "lab", "session.closed", 1),
                (1, "lan", "session.closed", 2),
                (2, "lan", "session.closed", 1),
            ]
        },
    ),
    Example(
        title="a node that arrives counts where it arrives; all else of nodes and of the plan is the site's",
        log=(
            happened("node.00", 5, NodeArrived(client=ALICE, subnet="lan"), NodeReady(client=ALICE)),
            happened("plan", 6, PoolWithdrawn(name="six")),
        ),
        rows={
            _ROWS: [(0, "", "node.ready", 1), (0, "", "pool.withdrawn", 1), (0, "lan", "node.arrived", 1)],
        },
    ),
)
