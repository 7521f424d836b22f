"""Whose a hardware address is that is seen on a link: the node that has told it, or one that is known by it alone.

A machine may have told who it is in several ways: to its Node Agent, by DHCPv6, by DHCPv4, to a boot loader. All agents
of a link read the same log, and choose the same of these.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable

from dnms.agents.subnet.books import Books
from dnms.domain.identity import duid_of_hardware
from dnms.domain.nodes import Node
from dnms.events.codec import decoder
from dnms.events.recorded import Personal
from dnms.events.requests import IdentifyNode
from dnms.wire.rates import Bucket

MACHINES_AT_ONCE, MACHINES_A_SECOND = 1_024, 0.1
"""Machines that the log does not know: a whole link at the start, then 8 640 a day, of some 700 bytes each."""
AT_ONCE = 256  # nodes that are read before other tasks get their turn

_decoder = decoder(Node)


class Owners:
    """Those of the nodes of one subnet."""

    def __init__(self, books: Books, client_id: Callable[[bytes], bytes]) -> None:
        """`client_id` names a DUID in the log."""
        self._books = books
        self._client_id = client_id
        self._strangers = Bucket(
            burst=MACHINES_AT_ONCE, per_second=MACHINES_A_SECOND, now=asyncio.get_running_loop().time()
        )
        self._read: dict[bytes, bytes] = {}  # by client: what was read of it
        self._hardware: dict[bytes, tuple[bytes, ...]] = {}  # by client: what it has told
        self._clients: defaultdict[bytes, dict[bytes, bool]] = defaultdict(dict)  # by hardware; has it a Node Agent?

    async def learn(self) -> None:
        """Read what is new of nodes. LogError where keys cannot be had now."""
        for number, (client, encoded) in enumerate(self._books.encoded_nodes()):
            if number % AT_ONCE == AT_ONCE - 1:
                await asyncio.sleep(0)
            if self._read.get(client) is not encoded:
                await self._learn(client, _decoder.decode(encoded))
                self._read[client] = encoded

    async def _learn(self, client: bytes, node: Node) -> None:
        for each in self._hardware.pop(client, ()):
            self._clients[each].pop(client, None)
            if not self._clients[each]:
                del self._clients[each]
        if node.identity is None or node.subnet != self._books.subnet:
            return
        hardware = await self._books.hardware(client)
        self._hardware[client] = tuple(hardware)
        for each in hardware:
            self._clients[each][client] = node.identity.kernel != ""

    def of(self, hardware: bytes) -> bytes:
        """The client that has a hardware address: with a Node Agent rather than without, and else known by it alone."""
        alone = self._client_id(duid_of_hardware(hardware))
        several = self._clients.get(hardware, {})
        found = min(several, key=lambda each: (not several[each], each != alone, each), default=alone)
        known = self._books.node(found)
        return known.joined if known is not None and known.joined else found

    async def introduce(self, hardware: bytes) -> bool:
        """Have the log say who has a hardware address, unless it does; false if it says so of too many new ones.

        LogError.
        """
        return await self._introduce(self.of(hardware), duid_of_hardware(hardware), hardware)

    async def introduce_server(self, duid: bytes, hardware: bytes) -> bytes:
        """Have the log say who serves DHCPv6 by a DUID, as far as that may be; its client id. LogError.

        `hardware`: from which it was heard, or a relay between; empty: a client has named it. Its own it is only where
        the DUID says so too.
        """
        client = self._client_id(duid)
        await self._introduce(client, duid, hardware if hardware and duid.endswith(hardware) else b"")
        return client

    async def _introduce(self, client: bytes, duid: bytes, hardware: bytes) -> bool:
        known = self._books.node(client)
        if known is not None and (known.identity is not None or known.entered is not None):
            return True
        if not self._strangers.take(asyncio.get_running_loop().time()):
            return False
        request = IdentifyNode(
            client=self._client_id(duid),
            duid=Personal(duid),
            name=Personal(""),
            subnet=self._books.subnet,
            hardware=(Personal(hardware),) if hardware else (),
        )
        await self._books.identify(request)
        return True
