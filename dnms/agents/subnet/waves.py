"""Brings a new plan to the nodes of one agent in the waves that the ledger lets go (see `dnms.domain.rollouts`).

Theory of operation. The agent looks now and then, while something is rolled out: it asks for the nodes that it has
sessions with, says which of them have proven what they were told and which could not take it, and asks for the next
wave when this one is proven. All of that is decided in the ledger, so several agents ask for the same without harm,
and one that is started again needs to know nothing: a node reports anew in a new session.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Literal

import structlog

from dnms.agents.subnet.books import Books
from dnms.agents.subnet.served import ServedNode
from dnms.bus.port import LostRace, Unanswered, Unavailable
from dnms.domain.aggregate import Refused
from dnms.domain.rollouts import RollingOut, waves_of
from dnms.events.plan import Rollout
from dnms.events.recorded import Request
from dnms.events.requests import AdvanceRollout, ProveRollout, StopRollout, TellRollout
from dnms.events.rollout import MAX_CLIENTS, Failed
from dnms.wire.agent_events import AppliedReport

LOOK = 0.5  # seconds

_logger = structlog.get_logger(__name__)


class Waves:
    """Of one agent."""

    def __init__(self, books: Books, nodes: Callable[[], Iterable[ServedNode]]) -> None:
        """`nodes`: whom there is a session with."""
        self._books = books
        self._nodes = nodes

    async def run(self) -> None:
        """Until cancelled. LogError, for what cannot be mended."""
        while True:
            await asyncio.sleep(LOOK)
            now = self._books.ledger.rollout
            if now is None or now.status != "running" or self._books.outage.active:
                continue
            reports = {node.client: node.report for node in self._nodes() if is_told(node)}
            requests = list(asked(now, waves_of(self._books.ledger.plan), reports, at=self._books.now()))
            try:
                for outcome in await self._books.decide_all(requests):
                    if isinstance(outcome, Refused):
                        _logger.warning("the rollout does not go on", why=outcome.why, text=outcome.text)
                    elif isinstance(outcome, BaseException):
                        raise outcome
            except (Unavailable, Unanswered, LostRace) as error:
                _logger.warning("the rollout waits for the log", why=error.why)


def is_told(node: ServedNode) -> bool:
    """Whether a node has an assignment of this session, so that it would be told another one."""
    return bool(node.client) and node.told is not None


def asked(
    now: RollingOut, waves: Rollout, reports: Mapping[bytes, AppliedReport | None], *, at: int
) -> Iterator[Request]:
    """What is asked of the ledger at the instant `at` for the clients here, with what each has reported last."""
    proven = list[bytes]()
    for client in now.unproven:
        match outcome(reports.get(client), now.told[client].position):
            case "proven":
                proven.append(client)
            case "rolled-back" | "refused" as why:
                yield StopRollout(position=now.position, client=client, why=why)
            case None:
                pass
    for clients in parts(proven):
        yield ProveRollout(position=now.position, clients=clients)
    for clients in parts(now.admitted(reports, waves)):
        yield TellRollout(position=now.position, clients=clients)
    if (silent := now.silent(waves, at)) is not None:
        yield StopRollout(position=now.position, client=silent, why="silent")
    if now.is_proven(waves, at):
        yield AdvanceRollout(position=now.position, wave=now.wave)


def outcome(report: AppliedReport | None, told: int) -> Literal["proven"] | Failed | None:
    """What became of what a node was told in the commit at `told`: proven, rolled-back, refused; None: not known yet.

    One whose address somebody else has declines it, and reports again with another one.
    """
    if report is None or report.generation.ledger < told or report.unproven:
        return None
    outcomes = {item.outcome for item in report.items}
    if "rolled-back" in outcomes or (report.why and not report.why.startswith("rival-")):
        return "rolled-back"
    if "refused" in outcomes or report.why:
        return "refused"
    return None if "duplicate" in outcomes else "proven"


def parts(clients: Sequence[bytes]) -> Iterable[tuple[bytes, ...]]:
    """As many as one request holds, each."""
    return (tuple(clients[first : first + MAX_CLIENTS]) for first in range(0, len(clients), MAX_CLIENTS))
