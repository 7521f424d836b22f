"""What a Subnet Agent has made of the log: the plan, its ledger, all nodes, which sessions it has left open, and how
far the routers are.
"""

from __future__ import annotations

from dnms.agents.subnet.routers import Reached
from dnms.bus.clock import Told
from dnms.bus.committer import WriteOnly
from dnms.bus.reading import Position
from dnms.domain.aggregate import Fold
from dnms.domain.filling import LedgerFold
from dnms.domain.ledger import Ledger
from dnms.domain.nodes import NodeShard
from dnms.domain.plan import PlanState
from dnms.events.recorded import Event
from dnms.events.seen import SessionClosed, SessionOpened


class Seen(WriteOnly):
    """The agent's own observations, as far as they outlive it."""

    def __init__(self) -> None:
        self.sessions: set[bytes] = set()  # clients with one that was opened and not closed

    def evolve(self, event: Event, *, at: int, position: int) -> None:
        """Take in what is in the log; a draft of it is itself, and stays as it is."""
        match event:
            case SessionOpened() if position:
                self.sessions.add(event.client)
            case SessionClosed() if position:
                self.sessions.discard(event.client)


class Folds:
    """Of one agent on one subnet. Each has its own position; all that lies before `read` is in all of them."""

    def __init__(self, secret: bytes) -> None:
        self.read: Position | None = None  # how far the log was followed; None: not at all
        self.told: Told | None = None  # by the log's clock, when the snapshot was taken that they are of
        self.expires_from: dict[int, float] | None = None  # by family, in seconds of the boot that `told` names
        self.events = 0  # that were folded since a snapshot was written
        self.plan = Fold(PlanState())
        self.ledger = LedgerFold(Ledger(secret))
        self.seen = Fold(Seen())
        self.routers = Reached()
        self.shards: dict[str, Fold[NodeShard]] = {}  # by subject
