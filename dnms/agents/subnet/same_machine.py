"""What is known by a hardware address alone is the machine that has that address, and a DUID of its own.

A machine that asks by DHCPv4 without a DUID, or is only seen on the link, is in the log by its hardware address, as the
DUID-LL of that. Where a client with a DUID of its own uses that address, as the link or a relay has seen it, both are
one node, without an operator's word. What a DUID has in it does not count for that: a copied disk has the DUID, and so
the address, of another machine. Anybody on the link can use any hardware address, but then the first of the two says
nothing that is surer: it is whoever has the address. What has two DUIDs is joined by an operator alone, and so is what
an operator has entered, parted, or joined something into.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog

from dnms.agents.subnet.books import Books
from dnms.domain.aggregate import Refused
from dnms.domain.identity import duid_of_hardware, is_hardware
from dnms.events.recorded import Personal
from dnms.events.requests import JoinNode
from dnms.wire.rates import Bucket

AT_ONCE, A_SECOND = 64.0, 1.0
"""Of joins: who comes once more is joined then."""

_logger = structlog.get_logger(__name__)


class SameMachine:
    """For the clients of one agent."""

    def __init__(self, books: Books, client_id: Callable[[bytes], bytes]) -> None:
        """`client_id` names a DUID in the log."""
        self._books = books
        self._client_id = client_id
        self._joins = Bucket(burst=AT_ONCE, per_second=A_SECOND, now=asyncio.get_running_loop().time())

    def is_due(self, client: bytes, hardware: bytes) -> bool:
        """Whether there is something to join to a client that uses this hardware address; empty: it is not known."""
        other = self._other(hardware)
        return other is not None and other != client and self._is_it(other, client)

    async def join(self, client: bytes, hardware: bytes) -> None:
        """A client uses this hardware address; empty: it is not known. LogError."""
        other, into = self._other(hardware), self._books.node(client)
        if other is None or other == client or into is None or into.identity is None or not self._is_it(other, client):
            return
        if not self._joins.take(asyncio.get_running_loop().time()):
            return
        # Another node may have been joined into the other one, by an operator. Nodes are looked at as bytes, in which
        # one has the client that it was joined into.
        if any(other in node for whose, node in self._books.encoded_nodes() if whose != other):
            return
        try:
            await self._books.tell(JoinNode(client=other, into=into.joined or client, hardware=Personal(hardware)))
        except Refused as refusal:
            _logger.debug("not joined", why=refusal.why, text=refusal.text)
        else:
            _logger.info("one machine by two identities", client=client.hex(), other=other.hex())

    def _other(self, hardware: bytes) -> bytes | None:
        return self._client_id(duid_of_hardware(hardware)) if is_hardware(hardware) else None

    def _is_it(self, other: bytes, client: bytes) -> bool:
        """Whether the other one is nothing but a hardware address, as far as can be told without the log."""
        known = self._books.node(other)
        if self._books.outage.active or known is None or known.identity is None or known.identity.kernel:
            return False
        return known.entered is None and not known.joined and client not in known.parted
