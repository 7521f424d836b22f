"""Who came while the log was away: recorded once it is back, and told what they are due beyond what they got."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog

from dnms.bus.committer import Committer
from dnms.bus.port import LogError, Unavailable
from dnms.domain.nodes import NodeShard
from dnms.events.requests import IdentifyNode

MAX_UNIDENTIFIED = 4_096
"""Nodes that came while the log was away, and are recorded after it: as many as an agent has sessions."""

_logger = structlog.get_logger(__name__)


class Comers:
    """Of one agent."""

    def __init__(self) -> None:
        self._unidentified: dict[bytes, IdentifyNode] = {}  # by client
        self._owed: set[bytes] = set()  # the clients that are due something

    def __contains__(self, client: bytes) -> bool:
        """Whether this one is still to be recorded."""
        return client in self._unidentified

    def add(self, request: IdentifyNode) -> None:
        """Record who this is. Unavailable if too many wait for that."""
        if len(self._unidentified) >= MAX_UNIDENTIFIED and request.client not in self._unidentified:
            raise Unavailable(f"{MAX_UNIDENTIFIED} nodes are to be recorded already")
        self._unidentified[request.client] = request

    def owe(self, client: bytes) -> None:
        """This client may be due more."""
        if len(self._owed) < MAX_UNIDENTIFIED:
            self._owed.add(client)

    def take_owed(self) -> set[bytes]:
        """Those that may be due more, once."""
        owed, self._owed = self._owed, set()
        return owed

    async def record(self, shard: Callable[[bytes], Committer[NodeShard]]) -> None:
        """Record all of them; `shard` writes about a client. LogError."""
        coming = tuple(self._unidentified.values())
        outcomes = await asyncio.gather(
            *(shard(each.client).submit(each) for each in coming),
            return_exceptions=True,
        )
        for each, outcome in zip(coming, outcomes, strict=True):
            if isinstance(outcome, LogError):
                raise outcome
            if isinstance(outcome, BaseException):  # it is said again when the node comes again
                _logger.error("a node that came in the outage is not recorded", reason=repr(outcome))
            if self._unidentified.get(each.client) is each:
                del self._unidentified[each.client]
