"""Discovery as a node sees it: multicast from fe80::, and the offers that come back."""

from __future__ import annotations

import asyncio
import random

from dnms.linux import multicast
from dnms.linux.multicast import DatagramReader, Peer
from dnms.wire.discovery import Candidate, Discovery
from dnms.wire.messages import PORT


class Search:
    """Looks for agents on one link, as often as it is asked, at the pace of one search."""

    def __init__(self, interface: int, *, duid: bytes) -> None:
        self._interface = interface
        self._duid = duid
        self._discovery: Discovery[Peer] | None = None

    async def candidates(self) -> tuple[Candidate[Peer], ...]:
        """Wait until agents have offered, and return them in the order in which to try them. KernelError."""
        loop = asyncio.get_running_loop()
        if self._discovery is None:
            self._discovery = Discovery(duid=self._duid, chance=random.SystemRandom(), now=loop.time())
        else:
            self._discovery.resume(loop.time())
        discovery = self._discovery
        heard = asyncio.Event()

        def receive(data: bytes, peer: Peer, hop_limit: int) -> None:
            discovery.receive(data, hop_limit=hop_limit, peer=peer, now=loop.time())
            heard.set()

        sock = multicast.unicast_socket(self._interface)
        reader = DatagramReader(sock, receive)
        try:
            while True:
                for datagram in discovery.to_send(loop.time()):
                    multicast.send(sock, datagram.data, (datagram.group, PORT), interface=self._interface)
                for chosen in discovery.events():
                    return chosen.candidates
                deadline = discovery.deadline()
                heard.clear()
                try:
                    async with asyncio.timeout_at(deadline):
                        await heard.wait()
                except TimeoutError:
                    continue
        finally:
            reader.close()

    def found(self) -> None:
        """An agent took us in: the next search begins at full pace."""
        self._discovery = None
