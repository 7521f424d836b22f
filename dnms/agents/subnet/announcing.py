"""What each agent of a link does for those that watch it: it says by what it is known there, and ends in the ledger
what is not seen any more where nobody watches.
"""

from __future__ import annotations

import asyncio

import structlog

from dnms.agents.subnet.books import Books
from dnms.agents.subnet.link import SeeingLink
from dnms.bus.port import LostRace, Unanswered, Unavailable
from dnms.domain.aggregate import Refused
from dnms.domain.sightings import MAX_NAMES, Announced
from dnms.events.requests import MAX_EXPIRIES, AnnounceAgent, LoseAddresses, Unseen
from dnms.linux.errors import KernelError

LOOK = 10.0  # seconds between two looks
SOON = 1.0
"""Seconds between two looks whether another agent watches: it takes 3 to find that something is wrong."""

_NOT_NOW = (Unavailable, Unanswered, LostRace)

_logger = structlog.get_logger(__name__)


class Announcing:
    """Of an agent on its link. `servers` are the client ids of the DUIDs by which it serves.

    `first`: it serves DHCP, or watches. Another one announces itself where one of those has, since it asks the link too
    who has an address.
    """

    def __init__(self, books: Books, link: SeeingLink, *, servers: tuple[bytes, ...] = (), first: bool = True) -> None:
        self._books = books
        self._link = link
        self._servers = servers
        self._first = first

    async def run(self) -> None:
        """Until cancelled. LogError, for what cannot be mended."""
        await self._books.caught_up.wait()
        while True:
            if not self._first and not self._books.ledger.sightings.agents:
                await asyncio.sleep(SOON)
                continue
            try:
                await self._announce()
            except KernelError as error:
                _logger.warning("the addresses of this machine are not known", reason=str(error))
            except Refused as refusal:
                _logger.warning("other agents may take this one for a stranger", why=refusal.why, text=refusal.text)
            except _NOT_NOW as error:
                _logger.debug("not announced yet", why=error.why)
            await asyncio.sleep(LOOK)

    async def _announce(self) -> None:
        """LogError; Refused, KernelError."""
        books = self._books
        addresses = tuple(sorted(await self._link.own()))[:MAX_NAMES]
        known = books.ledger.sightings.agents.get(books.agent)
        if known != Announced(addresses, self._servers) and not books.outage.active:
            await books.decide(AnnounceAgent(agent=books.agent, addresses=addresses, servers=self._servers))


class Losing:
    """Ends sightings that count no more: no agent that watches the link has prolonged them."""

    def __init__(self, books: Books) -> None:
        self._books = books

    async def run(self) -> None:
        """Until cancelled. LogError, for what cannot be mended."""
        await self._books.caught_up.wait()
        while True:
            await asyncio.sleep(LOOK)
            over = self._over()
            if not over or self._books.outage.active:
                continue
            try:
                await self._books.decide(LoseAddresses(unseen=over))
            except _NOT_NOW as error:
                _logger.debug("what is not seen any more is not recorded yet", why=error.why)
            except Refused as refusal:
                _logger.error("what is not seen any more is not recorded", why=refusal.why, text=refusal.text)

    def _over(self) -> tuple[Unseen, ...]:
        at, recorded = self._books.now(), self._books.ledger.sightings.all
        over = [Unseen(address=address) for address, known in recorded.items() if known.until <= at]
        return tuple(over[:MAX_EXPIRIES])
