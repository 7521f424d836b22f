"""Whether the bus can be reached anew: a connection that was there before a change of rules says nothing of them."""

from __future__ import annotations

import asyncio
import contextlib
from urllib.parse import urlsplit

PORT = 4_222  # of NATS
PAUSE = 0.5  # seconds between two attempts
GREETING = b"INFO "
"""With this a NATS server begins, whether TLS follows or not."""


async def reaches(bus: str, within: float) -> bool:
    """Connect to any server of the bus and hear its greeting, in so many seconds at most."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(within):
            while True:
                for url in bus.split(","):
                    if await _greets(url):
                        return True
                await asyncio.sleep(PAUSE)
    return False


async def _greets(url: str) -> bool:
    parts = urlsplit(url)
    try:
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port or PORT)
    except OSError:
        return False
    try:
        return await reader.readexactly(len(GREETING)) == GREETING
    except (OSError, asyncio.IncompleteReadError):
        return False
    finally:
        writer.close()
