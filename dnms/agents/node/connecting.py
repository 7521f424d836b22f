"""From offers to a connection that TLS has proven. Anybody on the link can offer, so no attempt holds the others up."""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from collections.abc import Iterable
from typing import Protocol

import msgspec
import structlog

from dnms.agents import tls
from dnms.events.ip import format_address, is_link_local
from dnms.linux.multicast import Peer
from dnms.wire.discovery import Candidate
from dnms.wire.messages import Endpoint

CONNECT_WITHIN = 5.0  # seconds for TCP and TLS on one link
STAGGER = 0.25  # seconds between the beginnings of two attempts, as long as none has succeeded (RFC 8305, 5)
MAX_ENDPOINTS_TRIED = 3  # of one offer: the link-local one works on any healthy link

_logger = structlog.get_logger(__name__)


class Attempt(msgspec.Struct, frozen=True, eq=False):
    """One place where an agent says that it listens."""

    candidate: Candidate[Peer]
    endpoint: Endpoint


class Connection(msgspec.Struct, frozen=True, eq=False):
    """A connection to an agent of our site."""

    attempt: Attempt
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    validity: tls.Validity  # of the agent's certificate


class Connect(Protocol):
    """Connects to an agent of the site, and to nobody else."""

    async def __call__(
        self, endpoint: Endpoint, *, seen: float
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter, tls.Validity]:
        """`seen` as in `tls.connect`. OSError, ssl.SSLError."""
        ...


def in_order(candidates: Iterable[Candidate[Peer]]) -> deque[Attempt]:
    """The attempts to make: of all candidates the best endpoint, in the order of candidates, then the next ones.

    A link-local endpoint is the best: it works before the node has any other address (D27, D30).
    """
    ranked = [
        [Attempt(candidate, each) for each in sorted(candidate.offer.endpoints, key=_is_far)[:MAX_ENDPOINTS_TRIED]]
        for candidate in candidates
    ]
    return deque(attempts[rank] for rank in range(MAX_ENDPOINTS_TRIED) for attempts in ranked if rank < len(attempts))


def _is_far(endpoint: Endpoint) -> bool:
    return not is_link_local(endpoint.address)


class Connecting:
    """Tries what was offered until one agent has proven that it is of our site."""

    def __init__(self, connect: Connect) -> None:
        self._connect = connect
        self.seen = 0.0  # the latest time that was ever seen here, in seconds since 1970-01-01 UTC

    async def first(self, attempts: deque[Attempt]) -> Connection | None:
        """The first connection that comes about. What was not tried to its end stays in `attempts`; None: all failed.

        Each attempt begins a little after the one before, or when all before have failed.
        """
        running: dict[asyncio.Task[Connection | None], Attempt] = {}
        try:
            while attempts or running:
                if attempts:
                    attempt = attempts.popleft()
                    running[asyncio.create_task(self._try(attempt))] = attempt
                done, _ = await asyncio.wait(
                    running, timeout=STAGGER if attempts else None, return_when=asyncio.FIRST_COMPLETED
                )
                ended = [task for task in running if task in done]  # in the order in which they began
                for task in ended:
                    del running[task]
                made = [connection for task in ended if (connection := task.result()) is not None]
                for surplus in made[1:]:
                    surplus.writer.transport.abort()
                if made:
                    return made[0]
        finally:
            attempts.extendleft(reversed(running.values()))
            for task in running:
                task.cancel()
            if running:
                await asyncio.wait(running)
            for task in running:
                if not task.cancelled() and (late := task.result()) is not None:
                    late.writer.transport.abort()
        return None

    async def _try(self, attempt: Attempt) -> Connection | None:
        try:
            async with asyncio.timeout(CONNECT_WITHIN):
                made = await self._connect(attempt.endpoint, seen=self.seen)
        except (OSError, ssl.SSLError) as error:  # a timeout is an OSError
            agent, at = attempt.candidate.offer.agent, format_address(attempt.endpoint.address)
            _logger.info("agent not reached", agent=agent, at=at, reason=str(error) or "timeout")
            return None
        return Connection(attempt, *made)
