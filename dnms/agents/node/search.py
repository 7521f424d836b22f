"""Discovery as a node sees it: multicast from fe80::, and the offers that come back."""

from __future__ import annotations

import asyncio

from dnms.agents.node.machine import Machine
from dnms.linux.multicast import Peer
from dnms.wire.discovery import FIRST_WITHIN, Candidate, Discovery


class Search:
    """Looks for agents on one link, as often as it is asked, at the pace of one search."""

    def __init__(self, machine: Machine, interface: int, *, duid: bytes) -> None:
        self._machine = machine
        self._interface = interface
        self._duid = duid
        self._discovery: Discovery[Peer] | None = None
        self.is_spread = False
        """The nodes of this link do not come up at once: something else has drawn how long this one waits."""
        self._heard = asyncio.Event()

    async def candidates(self) -> tuple[Candidate[Peer], ...]:
        """Wait until agents have offered, and return them in the order in which to try them. KernelError."""
        loop = asyncio.get_running_loop()
        if self._discovery is not None:
            self._discovery.resume(loop.time())
        socket = self._machine.open(self._interface, self._receive)
        try:
            while True:
                discovery = self._discovery = self._discovery or self._begin()
                for datagram in discovery.to_send(loop.time()):
                    socket.send(datagram.data, datagram.group)
                for chosen in discovery.events():
                    return chosen.candidates
                self._heard.clear()
                try:
                    async with asyncio.timeout_at(discovery.deadline()):
                        await self._heard.wait()
                except TimeoutError:
                    continue
        finally:
            socket.close()

    def begin_anew(self) -> None:
        """Search at full pace: an agent had taken us in, or the link was away and may be another one."""
        self._discovery = None
        self._heard.set()

    def _begin(self) -> Discovery[Peer]:
        within, self.is_spread = 0.0 if self.is_spread else FIRST_WITHIN, False
        now = asyncio.get_running_loop().time()
        return Discovery(duid=self._duid, chance=self._machine.chance, now=now, within=within)

    def _receive(self, data: bytes, peer: Peer, hop_limit: int) -> None:
        if self._discovery is not None:
            now = asyncio.get_running_loop().time()
            self._discovery.receive(data, hop_limit=hop_limit, peer=peer, now=now)
            self._heard.set()
