"""Keeps the ledger at what this router has from above: what comes there, and what ends."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

import msgspec
import structlog

from dnms.agents.subnet.books import Books
from dnms.agents.subnet.upstream import Upstream
from dnms.bus.port import LostRace, Unanswered, Unavailable
from dnms.domain.aggregate import Refused
from dnms.events.plan import Uplink as PlannedUplink
from dnms.events.requests import ReportUplink
from dnms.kit.clock import MICROSECONDS

RETRY = 1.0  # seconds
LOOK = 30.0  # seconds between two looks where nothing is told and nothing ends

_logger = structlog.get_logger(__name__)

Asks = Callable[[PlannedUplink], Upstream]
"""Who asks above by an uplink of the plan."""


class Uplink:
    """Of one Subnet Agent."""

    def __init__(self, books: Books, asks: Asks) -> None:
        self._books = books
        self._asks = asks

    async def run(self) -> None:
        """Ask as the plan says, until cancelled. KernelError; LogError, for what cannot be mended."""
        while True:
            planned = self._planned()
            if planned is None:
                await self._until_planned(planned)
                continue
            upstream = self._asks(planned)
            async with asyncio.TaskGroup() as tasks:
                work = (tasks.create_task(upstream.run()), tasks.create_task(self._keep(planned, upstream)))
                await self._until_planned(planned)
                for task in work:
                    task.cancel()

    def _planned(self) -> PlannedUplink | None:
        return self._books.ledger.plan.uplink

    async def _until_planned(self, planned: PlannedUplink | None) -> None:
        """Wait until the plan says something else."""
        while self._planned() == planned:
            await self._books.planned.wait()
            self._books.planned.clear()

    async def _keep(self, planned: PlannedUplink, upstream: Upstream) -> None:
        while True:
            upstream.changed.clear()
            again = LOOK
            try:
                again = await self._report(planned, upstream)
            except Refused as refusal:
                _logger.error("what comes from above is not taken", why=refusal.why, text=refusal.text)
            except (Unavailable, Unanswered, LostRace) as error:
                _logger.warning("what comes from above is not recorded yet", why=error.why)
                again = RETRY
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(again):
                    await upstream.changed.wait()

    async def _report(self, planned: PlannedUplink, upstream: Upstream) -> float:
        """Tell the ledger; after how many seconds to do so again, since something ends then. Refused; LogError."""
        received = upstream.current()
        if received is not None:
            report = ReportUplink(
                uplink=planned.name,
                prefixes=received.prefixes,
                source=received.source,
                agent=self._books.agent,
                why=received.why,
            )
            for event in await self._books.decide(report):
                _logger.info(event.NAME, **_said(event))
        now = self._books.now()
        ends = (each.valid_until for each in self._books.ledger.uplinks.values())
        return min(LOOK, max(RETRY, (min(ends, default=now) - now) / MICROSECONDS)) if received is not None else LOOK


def _said(event: msgspec.Struct) -> dict[str, str]:
    prefix = getattr(event, "prefix", None)
    return {} if prefix is None else {"prefix": str(prefix)}
