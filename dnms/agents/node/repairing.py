"""What somebody else changes on the interface: seen, told, and by the policy put back, though not for ever."""

from __future__ import annotations

from collections import deque

import msgspec

from dnms.agents.node.application import Application
from dnms.agents.node.work import Pace
from dnms.domain.drift import CONTESTED, HOLD, LEFT, RESTORED, RESTORES, WITHIN, Contest
from dnms.events.configuration import Assignment
from dnms.events.seen import DriftItem
from dnms.wire.messages import MAX_DRIFT, Drifted
from dnms.wire.node_session import NodeSession

MAX_UNTOLD = 8  # that wait for a session; who comes back after a month has no use for the rest


class Verdict(msgspec.Struct, frozen=True):
    """What is to be done."""

    wait: float = 0.0  # seconds, and then it is looked again
    restore: bool = False
    action: str = LEFT
    items: tuple[DriftItem, ...] = ()


NOTHING = Verdict()


class Repairing:
    """Of one interface."""

    def __init__(self, application: Application) -> None:
        self._application = application
        self._pace = Pace()
        self._contest = Contest()
        self._untold: deque[Drifted] = deque(maxlen=MAX_UNTOLD)

    def begin_anew(self) -> None:
        """Something else was assigned: what was given up is tried again."""
        self._contest.begin_anew()

    async def look(self, wanted: Assignment, *, draining: bool, now: float) -> Verdict:
        """What is to be done about what the interface has; `now` by the event loop's clock. KernelError.

        `draining`: addresses of others stay on it for their sockets.
        """
        if wanted.policy.drift == "leave":
            return NOTHING
        items = await self._application.drift(wanted, draining=draining)
        if items is None:
            self._pace.sound(now)
            self._contest.sound()
            return NOTHING
        if wait := self._pace.wait(now):
            return Verdict(wait=wait)
        if not items:  # only ours, which nobody wants any more
            self._pace.repaired(now)
            return Verdict(restore=True)
        action, concerned = self._contest.act(items, wanted.policy, now)
        if action != LEFT:
            self._pace.repaired(now)
        return Verdict(restore=action == RESTORED, action=action, items=concerned)

    def note(self, verdict: Verdict, wanted: Assignment, rival: str) -> None:
        """It was done, and is to be told; `rival` is who else manages the interface, where that is known."""
        if not verdict.items:
            return
        contested = verdict.action == CONTESTED
        self._untold.append(
            Drifted(
                generation=wanted.generation,
                items=verdict.items[:MAX_DRIFT],
                action=verdict.action,
                rival=rival,
                more=len(verdict.items[MAX_DRIFT:]),
                restored=RESTORES if contested else 0,
                within=int(WITHIN) if contested else 0,
                hold=int(HOLD) if contested else 0,
            )
        )

    def tell(self, session: NodeSession) -> bool:
        """Tell what is to be told; whether something was."""
        told = False
        while self._untold and session.drifted(self._untold[0]):
            self._untold.popleft()
            told = True
        return told
