"""What one node may ask of the log in its session: not more than any node needs."""

from __future__ import annotations

from dnms.wire import agent_events as heard
from dnms.wire.messages import MAX_ASSOCIATIONS
from dnms.wire.rates import Bucket

DECISIONS_AT_ONCE = 4 * MAX_ASSOCIATIONS
DECISIONS_A_SECOND = 1.0
"""On what one node asks for. Each may stand in the log for ever, the refused ones too."""
OBSERVATIONS_AT_ONCE = 16
OBSERVATIONS_A_SECOND = 1 / 30
"""Whole configurations that one node may have recorded, of up to 256 KiB each; the newest one is told at last."""


class Budget:
    """Of one session."""

    def __init__(self, *, now: float) -> None:
        self.decisions = Bucket(burst=DECISIONS_AT_ONCE, per_second=DECISIONS_A_SECOND, now=now)
        self._observations = Bucket(burst=OBSERVATIONS_AT_ONCE, per_second=OBSERVATIONS_A_SECOND, now=now)

    def affords(self, event: heard.AgentEvent, *, now: float) -> bool:
        """Whether what the node asks for is within it; then it is spent."""
        match event:
            case heard.Observed():
                return self._observations.take(now)
            case heard.Requested():
                return self.decisions.take(now, len(event.associations))
            case heard.Renewed() | heard.Rebound() | heard.Confirmed() | heard.Declined():
                return self.decisions.take(now, len(event.bindings) + len(event.wanted))
            case heard.Released():
                return self.decisions.take(now, len(event.bindings))
        return True
