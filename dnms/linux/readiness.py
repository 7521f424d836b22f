"""Waiting for a socket by the event loop's reader, which every loop has for every kind of socket."""

from __future__ import annotations

import asyncio
import socket

BURST = 64  # packets read before other tasks get their turn; a flood must not stop the agent


async def readable(sock: socket.socket, woken: asyncio.Future[None] | None = None) -> None:
    """Return when the socket has something to read, or when somebody sets the result of `woken`."""
    loop = asyncio.get_running_loop()
    future = woken or loop.create_future()
    descriptor = sock.fileno()
    loop.add_reader(descriptor, lambda: None if future.done() else future.set_result(None))
    try:
        await future
    finally:
        loop.remove_reader(descriptor)


class Turn:
    """Of who reads a socket until it has nothing more."""

    def __init__(self) -> None:
        self._burst = 0

    async def read_one(self) -> None:
        """One packet was read: now and then others come first."""
        self._burst = (self._burst + 1) % BURST
        if not self._burst:
            await asyncio.sleep(0)


async def peek(sock: socket.socket, length: int) -> bytes:
    """The next bytes of a TCP connection, which stay there for who reads next. Fewer than `length` if it has ended.

    OSError.
    """
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, length)  # it is not readable before (socket(7))
    try:
        await readable(sock)
        return sock.recv(length, socket.MSG_PEEK)
    finally:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 1)
