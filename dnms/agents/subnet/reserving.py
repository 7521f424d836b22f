"""What the plan reserves for a DUID, under whichever IAID, or for a hardware address, by whichever DUID.

A machine has one hardware address and asks by several DUIDs: in its firmware, in its installer, and in each of its
systems. So whoever comes last by a hardware address has what is reserved for it, as with any other DHCP server, and a
lease that it had by another name is over. Anybody on the link can say to have it; but nobody takes it from a node with
a Node Agent so, which has proven who it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import structlog

from dnms.agents.subnet.books import Books
from dnms.domain import planned
from dnms.domain.aggregate import Refused
from dnms.domain.identity import duid_of_hardware, is_hardware
from dnms.domain.ledger import Ledger
from dnms.events.plan import Family
from dnms.events.requests import ClaimReserved

_logger = structlog.get_logger(__name__)


class Reserving:
    """Of one agent."""

    def __init__(self, books: Books, client_id: Callable[[bytes], bytes]) -> None:
        """`client_id` names a DUID in the log."""
        self._books = books
        self._client_id = client_id

    def names(self, client: bytes, hardware: Iterable[bytes]) -> tuple[bytes, ...]:
        """The clients for which the plan has reserved what this one is to have, as far as it has any such."""
        reserved = self._books.ledger.adopted.reserved
        if not reserved:
            return ()
        entries = (self._client_id(duid_of_hardware(each)) for each in hardware if is_hardware(each))
        return tuple(each for each in dict.fromkeys((client, *entries)) if each in reserved)

    def foresee(self, draft: Ledger, names: Iterable[bytes], client: bytes, iaid: int, kind: Family) -> None:
        """Have a draft keep for a client what would be kept for it."""
        at = self._books.now()
        for request in tuple(self._claims(draft, names, client, iaid, kind)):
            for event in draft.decide(request, at=at, entropy=b""):
                draft.evolve(event, at=at, position=0)

    async def claim(self, names: Iterable[bytes], client: bytes, iaid: int, kind: Family) -> None:
        """Have it be kept for this client, who asks. LogError."""
        for request in tuple(self._claims(self._books.ledger, names, client, iaid, kind)):
            try:
                await self._books.decide(request)
            except Refused as refusal:  # for the plan that was adopted meanwhile
                _logger.warning("not given what is reserved for it", why=refusal.why, text=refusal.text)

    def _claims(
        self, ledger: Ledger, names: Iterable[bytes], client: bytes, iaid: int, kind: Family
    ) -> Iterator[ClaimReserved]:
        for request in planned.claims(ledger, names, client, iaid, kind):
            holders = {ledger.held[address][0] for address in ledger.adopted.reserved[request.reserved_for]}
            if any(self._books.has_agent(each) for each in holders - {client, request.reserved_for}):
                _logger.warning("a node with a Node Agent has what is reserved for it", client=client.hex())
                continue
            yield request
