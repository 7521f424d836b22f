"""What a client has that asks for it again: where the log has promised that for long enough, it need not be asked."""

from __future__ import annotations

from dnms.agents.subnet.books import Books
from dnms.domain.aggregate import Refused
from dnms.events.requests import AllocateAddress


def is_granted(books: Books, request: AllocateAddress) -> bool:
    """Whether a client has what it asks for, and the ledger grants that without an event."""
    ledger = books.ledger
    if (request.client, request.iaid, request.family) not in ledger.bindings:
        return False
    try:
        return not ledger.decide(request, at=books.now(), entropy=bytes(ledger.entropy(request)))
    except Refused:
        return False
