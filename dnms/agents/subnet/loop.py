"""The event loop that a Subnet Agent runs on: it holds one session a node, and TLS of asyncio's own loop is large.

There each connection has 256 KiB to receive into, and all of it is written to when it is made, which is 300 MiB for
1 000 nodes. uvloop has as much, and does not touch what it does not use. `docs/performance.md` has the figures.
"""

from __future__ import annotations

import asyncio

import uvloop


def new_event_loop() -> asyncio.AbstractEventLoop:
    """A new one."""
    return uvloop.new_event_loop()
