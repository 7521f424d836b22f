"""Ends leases whose horizon has passed and addresses that are drained, by any agent that sees it first: the ledger's
sequence makes it happen once.

Leases end by the log's clock, and nodes stop using them by their own. So nothing expires for as long as it may be that
the two do not say the same: at the start, after the log's clock was set, and after an outage. An agent whose snapshot
tells that nothing of this has happened since goes on where its former self was.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

import structlog

from dnms.agents.subnet.outage import Outage
from dnms.bus.committer import Committer
from dnms.bus.port import LostRace, Unanswered, Unavailable
from dnms.domain import outage
from dnms.domain.aggregate import Refused
from dnms.domain.ledger import Ledger
from dnms.domain.renewing import HORIZON
from dnms.events.ip import Prefix, family
from dnms.events.requests import MAX_EXPIRIES, ExpireAddresses, ExpirePrefixes
from dnms.kit.clock import MICROSECONDS

EXPIRY_PERIOD = 1.0  # seconds
EXPIRY_GRACE = 60 * MICROSECONDS
"""After a horizon. A node counts the lifetimes of what is pushed to it from when it comes, and TCP may hold that back
for as long as it takes to find a peer dead."""
DRAIN_GRACE = 2 * MICROSECONDS
"""After the time of a drained address: its node has let it go by then. It stays kept from others until its horizon, so
neither a clock that was set nor an agent that comes late does harm here."""

_logger = structlog.get_logger(__name__)


class Expiring:
    """Of one ledger."""

    def __init__(self, ledger: Committer[Ledger], away: Outage, *, subnet: str, now: Callable[[], int]) -> None:
        """`now` is the log's clock as it is known here, in microseconds."""
        self._ledger = ledger
        self._outage = away
        self._subnet = subnet
        self._now = now
        self._begins = {4: 0.0, 6: 0.0}  # by family, on the event loop's clock: nothing expires before
        self._running = False

    @property
    def waits(self) -> dict[int, float] | None:
        """For how many seconds nothing expires yet, by family; None: that is not known before it runs."""
        if not self._running:
            return None
        now = asyncio.get_running_loop().time()
        return {kind: max(0.0, begins - now) for kind, begins in self._begins.items()}

    def suspend(self) -> dict[int, int]:
        """Let nothing expire until every lease was renewed or is over by any clock; for how many seconds, by family."""
        longest = {4: 0, 6: 0}
        for pool in self._ledger.fold.state.plan.pools:
            kind = family(pool.first)
            longest[kind] = max(longest[kind], HORIZON[kind] * pool.valid)
        for each in self._ledger.fold.state.plan.delegations:
            longest[6] = max(longest[6], HORIZON[6] * each.valid)
        self.suspend_for(longest)
        return longest

    def suspend_for(self, seconds: Mapping[int, float]) -> None:
        """By family; what was to wait for longer does."""
        now = asyncio.get_running_loop().time()
        self._begins = {kind: max(begins, now + seconds[kind]) for kind, begins in self._begins.items()}

    async def run(self, waits: Mapping[int, float] | None = None) -> None:
        """Until cancelled. LogError, for what cannot be mended. The fold is complete.

        `waits`: for how many seconds nothing expires, by family, as the former self of this agent had it; None: nobody
        can tell whether the log's clock was set while it was away.
        """
        if waits is None:
            self.suspend()
        else:
            # Another agent may come later, with what it has prolonged in an outage that this one has slept through.
            longest = outage.longest(self._ledger.fold.state.plan)
            self.suspend_for({4: waits[4], 6: max(waits[6], longest)})
        self._running = True
        while True:
            await asyncio.sleep(EXPIRY_PERIOD)
            if self._outage.active:
                continue
            try:
                while due := self._due():
                    await self._outage.unless(self._ledger.submit(ExpireAddresses(addresses=due)))
                while over := self._over():
                    await self._outage.unless(self._ledger.submit(ExpirePrefixes(prefixes=over)))
            except (Unavailable, Unanswered, LostRace) as error:
                _logger.warning("leases not expired yet", subnet=self._subnet, why=error.why)
            except Refused as refusal:
                _logger.error("leases not expired", subnet=self._subnet, why=refusal.why, text=refusal.text)

    def _over(self) -> tuple[Prefix, ...]:
        """The delegations that have ended. Of these there is one an association, and most are renewed before."""
        now, delegations = self._now(), self._ledger.fold.state.delegations
        may_expire = self._begins[6] <= asyncio.get_running_loop().time()
        due = (delegations.all[prefix] for prefix in delegations.due(now - DRAIN_GRACE, MAX_EXPIRIES))
        return tuple(
            each.prefix
            for each in due
            # What is drained is kept from others until its horizon; past that too it is one that expires.
            if (each.drained_at and each.horizon > now + DRAIN_GRACE)
            or (may_expire and each.horizon <= now - EXPIRY_GRACE)
        )

    def _due(self) -> tuple[bytes, ...]:
        now = asyncio.get_running_loop().time()
        kinds = {kind for kind, begins in self._begins.items() if begins <= now}
        ledger = self._ledger.fold.state
        drained = tuple(
            address
            for address in ledger.drained(self._now() - DRAIN_GRACE, MAX_EXPIRIES)
            if ledger.leases[address].horizon > self._now() + DRAIN_GRACE  # likewise: else it expires
        )
        return drained or ledger.due(self._now() - EXPIRY_GRACE, MAX_EXPIRIES, kinds)
