"""Discovery as agents and relays see it: hears solicits on the link's groups, answers each from a socket of its own."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable

import structlog

from dnms.agents.listening import DiscoveryLink
from dnms.linux.errors import KernelError
from dnms.linux.multicast import Peer
from dnms.wire.answering import Answering
from dnms.wire.messages import Offer

REJOIN = 60.0  # seconds; a snooping bridge forgets a member after some 260 s, or when it restarts
REPORT = 60.0  # seconds between two lines about what was dropped
UNANSWERABLE = "unanswerable"
"""The kernel refuses to send to where a solicit says that it comes from."""

_logger = structlog.get_logger(__name__)


class Offers:
    """The discovery listener of one link. `load` tells the number of open sessions."""

    def __init__(self, link: DiscoveryLink, offer: Offer, load: Callable[[], int]) -> None:
        """KernelError if the sockets cannot be had."""
        self._answering: Answering[Peer] = Answering(offer)
        self._load = load
        self._loop = asyncio.get_running_loop()
        self._wake = asyncio.Event()
        self._discovery = link.discovery(self._receive)

    async def run(self) -> None:
        """Answer until cancelled."""
        rejoin = report = self._loop.time()
        told: Counter[str] = Counter()
        try:
            while True:
                now = self._loop.time()
                for data, peer in self._answering.to_send(now):
                    self._send(data, peer)
                if now >= rejoin:
                    rejoin = now + REJOIN
                    self._discovery.rejoin()
                if now >= report:
                    report = now + REPORT
                    dropped = self._answering.dropped + self._discovery.dropped
                    if dropped != told:
                        _logger.warning("datagrams dropped", **(dropped - told))
                        told = dropped
                due = self._answering.deadline()
                wait = min(rejoin, report, due if due is not None else rejoin) - now
                self._wake.clear()
                try:
                    async with asyncio.timeout(max(0, wait)):
                        await self._wake.wait()
                except TimeoutError:
                    continue
        finally:
            self._discovery.close()

    def _send(self, data: bytes, peer: Peer) -> None:
        try:
            self._discovery.send(data, peer)
        except KernelError as error:
            # A solicit from port 0, for one. What a peer wrote into its datagram must end nothing here.
            self._answering.dropped[UNANSWERABLE] += 1
            _logger.debug("solicit not answered", peer=peer[0], reason=str(error))

    def _receive(self, data: bytes, peer: Peer, hop_limit: int) -> None:
        self._answering.load = self._load()
        self._answering.receive(data, hop_limit=hop_limit, peer=peer, source=peer[0], now=self._loop.time())
        self._wake.set()
