"""One node's connection, passed on: bytes both ways, as they come, between its TLS and that of its agent.

It counts as led in when the agent has answered what the node said after its ClientHello, which takes TLS: so who only
begins it gives way here too, when there are many (`agents.door`).
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable

from dnms.agents.listening import read_exactly
from dnms.agents.relay.upstream import keep_alive
from dnms.events.ip import is_link_local, parse_address
from dnms.wire import relaying
from dnms.wire.errors import Code, PeerError
from dnms.wire.relaying import RECORD_HEAD

CHUNK = 16 * 1024  # bytes passed on at once: a record of TLS
STALLED = 30.0  # seconds in which one end takes nothing of what the other sent
LINGER = 5.0  # seconds that the other direction has when one has ended

Open = Callable[[bytes, bytes], Awaitable[tuple[socket.socket, bytes]]]
"""Passes on a node at this address that began with this record: the agent's end, and its first bytes. PeerError."""


class Passing:
    """A node's connection and that to its agent."""

    def __init__(self, node: socket.socket, agent: socket.socket, first: bytes) -> None:
        """`first` is what has come from the agent already."""
        self._node, self._agent = node, agent
        self._node_spoke = False
        self._answered = asyncio.Event()  # the node was, after it spoke, or nothing will come any more
        self._tasks = [
            asyncio.create_task(self._copy(node, agent)),
            asyncio.create_task(self._copy(agent, node, first)),
        ]

    async def answered(self) -> None:
        """Wait until the agent has answered what the node said. ConnectionResetError if either ends before."""
        await self._answered.wait()
        if any(task.done() for task in self._tasks):
            raise ConnectionResetError("it has ended")

    async def ended(self) -> None:
        """Wait until it has ended, and close both; at once, if cancelled."""
        try:
            await asyncio.wait(self._tasks, return_when=asyncio.FIRST_COMPLETED)
            await asyncio.wait(self._tasks, timeout=LINGER)
        finally:
            await self.close()

    async def close(self) -> None:
        """End it. Whoever cancels that has to wait: a socket must not be closed as long as a task reads it."""
        for task in self._tasks:
            task.cancel()
        cancelled = None
        while not all(task.done() for task in self._tasks):
            try:
                await asyncio.wait(self._tasks)
            except asyncio.CancelledError as error:
                cancelled = error
        self._node.close()
        self._agent.close()
        if cancelled is not None:
            raise cancelled

    async def _copy(self, source: socket.socket, sink: socket.socket, data: bytes = b"") -> None:
        loop, begins_with = asyncio.get_running_loop(), data
        try:
            while data := data or await loop.sock_recv(source, CHUNK):
                if source is self._node:
                    self._node_spoke = True
                elif self._node_spoke and data is not begins_with:
                    self._answered.set()
                async with asyncio.timeout(STALLED):
                    await loop.sock_sendall(sink, data)
                data = b""
            sink.shutdown(socket.SHUT_WR)
        except OSError:  # a timeout is one; the other direction has its LINGER then
            pass
        finally:
            if source is self._agent:
                self._answered.set()  # or it would be waited for in vain


class NodeKnock:
    """A connection of a node that was not passed on yet."""

    def __init__(self, connection: socket.socket, peer: str, open_: Open) -> None:
        self.peer = peer
        self._connection = connection
        self._open = open_

    async def enter(self, *, within: float) -> Passing:
        """Pass it on, and wait until it is led through TLS. OSError, PeerError."""
        async with asyncio.timeout(within):
            address = parse_address(self.peer.partition("%")[0])
            if not is_link_local(address):
                raise PeerError(Code.NOT_ON_LINK)
            keep_alive(self._connection)
            head = await read_exactly(self._connection, RECORD_HEAD)
            rest = await read_exactly(self._connection, relaying.record_length(head) - RECORD_HEAD)
            agent, first = await self._open(address, head + rest)
            passing = Passing(self._connection, agent, first)
            try:
                await passing.answered()
            except BaseException:
                await passing.close()
                raise
            return passing

    def close(self) -> None:
        """Let it not in."""
        self._connection.close()


class NodeListener:
    """A TCP socket that nodes connect to."""

    def __init__(self, listening: socket.socket, open_: Open) -> None:
        self._socket = listening
        self._open = open_

    async def accept(self) -> NodeKnock:
        """Wait for the next connection. OSError."""
        connection, address = await asyncio.get_running_loop().sock_accept(self._socket)
        return NodeKnock(connection, str(address[0]), self._open)

    def close(self) -> None:
        """Listen no more."""
        self._socket.close()
