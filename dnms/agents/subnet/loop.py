"""The event loop that a Subnet Agent runs on: it holds one session a node, and TLS of asyncio's own loop is large.

There each connection has 256 KiB to receive into, and all of it is written to when it is made, which is 300 MiB for
1 000 nodes. uvloop has as much, and does not touch what it does not use. `docs/performance.md` has the figures.
"""

from __future__ import annotations

import asyncio
import gc

import uvloop

YOUNG = 10_000
"""Objects that are made before Python looks for circles among them. By its default of 700 it looks several times for
each batch of messages, at what is still in use: 8 % of the CPU of a busy agent."""


def new_event_loop() -> asyncio.AbstractEventLoop:
    """A new one. What there is before it, as all modules, is not looked at for circles any more."""
    gc.freeze()
    gc.set_threshold(YOUNG, *gc.get_threshold()[1:])
    return uvloop.new_event_loop()
