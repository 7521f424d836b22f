"""Waiting for a socket by the event loop's reader, which every loop has for every kind of socket."""

from __future__ import annotations

import asyncio
import socket


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
