"""Before a DHCPv6 client is given an address of a sequential pool, the link is asked who has it (RFC 4861, 7.2).

Such addresses are those that people give by hand too. One of a hash, or drawn, is in use by a chance that DAD is for.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection

import msgspec
import structlog

from dnms.agents.subnet.books import Books
from dnms.agents.subnet.dhcp_offers import Offers
from dnms.agents.subnet.link import Dhcp6Link
from dnms.domain import declining
from dnms.domain.aggregate import Refused
from dnms.domain.strategies import COUNTING
from dnms.events.address import AddressAllocated
from dnms.events.ip import format_address
from dnms.events.requests import AllocateAddress, DeclineAddress
from dnms.linux.errors import KernelError

TRIES = 16
ASKED_AT_ONCE = 16  # each takes a socket for a second

_logger = structlog.get_logger(__name__)


class Probing:
    """Of one link."""

    def __init__(self, books: Books, link: Dhcp6Link) -> None:
        self._books = books
        self._link = link
        self._looked = Offers()  # at addresses that are to be given; nobody else is given them meanwhile
        self._asking = asyncio.Semaphore(ASKED_AT_ONCE)

    @property
    def is_wanted(self) -> bool:
        """Whether the plan has such a pool here."""
        return any(pool.strategy == COUNTING for pool, _ in self._books.ledger.adopted.pools(6))

    async def looked(self, request: AllocateAddress, hardware: Collection[bytes]) -> AllocateAddress:
        """The request, of an address that nobody of the link has but this hardware. Refused; LogError."""
        for _ in range(TRIES):
            if _binding(request) in self._books.ledger.bindings:
                return request  # and waits for nobody
            async with self._asking:  # before one is picked: the next clients of a pool would all pass it over
                given = self._foreseen(request)
                if given is None:
                    return request
                self._looked.add(_binding(request), given, now=asyncio.get_running_loop().time())
                request = msgspec.structs.replace(request, offered=given.address)
                if not await self._is_used(given.address, hardware):
                    return request
            await self._avoid(request, given.address)
            request = msgspec.structs.replace(request, offered=None)
        raise Refused("in-use", f"{TRIES} addresses that were to be given are used by others on the link")

    def _foreseen(self, request: AllocateAddress) -> AddressAllocated | None:
        """What the client would be given; None where that needs no look. Refused."""
        ledger, now = self._books.ledger, asyncio.get_running_loop().time()
        draft = ledger.draft()
        draft.offered = self._looked.others(_binding(request), now=now)
        events = draft.decide(request, at=self._books.now(), entropy=bytes(draft.entropy(request)))
        given = next((each for each in events if isinstance(each, AddressAllocated)), None)
        pool = None if given is None else ledger.pool_of(given.address)
        return given if pool is not None and pool.strategy == COUNTING else None

    async def _is_used(self, address: bytes, hardware: Collection[bytes]) -> bool:
        try:
            if address in await self._link.own():
                return True
            users = await self._link.users([address])
        except KernelError as error:
            _logger.warning("the link cannot be asked who has an address", reason=str(error))
            return False
        return bool(users.get(address, frozenset()) - set(hardware))

    async def _avoid(self, request: AllocateAddress, address: bytes) -> None:
        """Have an address given to nobody that somebody uses, as if the client had found that. Refused; LogError."""
        _logger.warning("an address of a pool is used by somebody", address=format_address(address))
        declining.check(self._books.ledger, request.client, at=self._books.now())
        events = await self._books.decide(request)
        self._looked.remove(_binding(request))
        if any(isinstance(each, AddressAllocated) and each.address == address for each in events):
            await self._books.decide(DeclineAddress(client=request.client, iaid=request.iaid, address=address))


def _binding(request: AllocateAddress) -> tuple[bytes, int, int]:
    return request.client, request.iaid, request.family
