"""Before a DHCPv4 client is offered an address of a sequential pool, the link is asked who has it (RFC 2131, 3.1).

Such addresses are those that people give by hand too. Where a hash picks, a machine that DNMS does not know is rarely
hit, and the client looks itself.
"""

from __future__ import annotations

import asyncio

import msgspec
import structlog

from dnms.agents.subnet.books import Books
from dnms.agents.subnet.dhcp4_names import Who
from dnms.agents.subnet.dhcp_offers import Offers
from dnms.agents.subnet.link import Dhcp4Link
from dnms.domain import declining
from dnms.domain.leases import Binding
from dnms.domain.strategies import COUNTING
from dnms.events.ip import format_address
from dnms.events.requests import AllocateAddress, DeclineAddress
from dnms.wire.dhcp4.messages import NOBODY
from dnms.wire.dhcp4.server import Question

ASKED_AT_ONCE = 16  # addresses of which the link is asked: each takes a socket for a second

_logger = structlog.get_logger(__name__)


class Probing:
    """Of one link."""

    def __init__(self, books: Books, link: Dhcp4Link, offers: Offers) -> None:
        self._books = books
        self._link = link
        self._offers = offers
        self._asking = asyncio.Semaphore(ASKED_AT_ONCE)
        self._looking: set[Binding] = set()

    def is_looking(self, who: Who) -> bool:
        """Whether it is not known yet if somebody uses what a client is to have: it is told nothing until then."""
        return who.binding in self._looking

    def is_wanted(self, asked: Question, address: bytes) -> bool:
        """Whether the link is asked who has this address, before it is given."""
        pool = self._books.ledger.pool_of(address)
        return pool is not None and pool.strategy == COUNTING and asked.relay == NOBODY

    async def is_free(self, server: bytes, asked: Question, who: Who, request: AllocateAddress, address: bytes) -> bool:
        """Whether nobody uses the address that a client is to have by this request; if somebody does, it is given to
        nobody.

        What is offered is told without another look: so an offer stands on only if this was found. Refused; LogError,
        KernelError.
        """
        is_free = False
        self._looking.add(who.binding)
        try:
            is_free = not await self._is_used(server, asked, who, address)
            if not is_free:
                await self._avoid(msgspec.structs.replace(request, offered=address), address)
        finally:
            self._looking.discard(who.binding)
            if not is_free:
                self._offers.remove(who.binding)
        return is_free

    async def _is_used(self, server: bytes, asked: Question, who: Who, address: bytes) -> bool:
        """Whether this agent has the address, or somebody of the link says that it has. KernelError."""
        if address == server:
            return True
        if not self.is_wanted(asked, address):
            return False
        async with self._asking:
            users = await self._link.users([address])
        return bool(users.get(address, frozenset()) - {who.hardware})

    async def _avoid(self, request: AllocateAddress, address: bytes) -> None:
        """Have an address given to nobody that somebody uses, as if the client had found that. Refused; LogError."""
        ledger, client, iaid = self._books.ledger, request.client, request.iaid
        _logger.warning("an address of a pool is used by somebody", address=format_address(address))
        declining.check(ledger, client, at=self._books.now())
        await self._books.decide(request)
        if any(lease.address == address for lease in ledger.leases_of(client, iaid, 4)):
            await self._books.decide(DeclineAddress(client=client, iaid=iaid, address=address))
