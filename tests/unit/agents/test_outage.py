"""A Subnet Agent while the log is away: who asks is told in time, and what nobody waits for is recorded afterwards."""

from __future__ import annotations

import asyncio

from dnms.agents.subnet.books import Books
from dnms.agents.subnet.served import OUTAGE
from dnms.bus.append import PATIENCE
from dnms.wire.channel import Closed
from tests.unit.agents.conftest import FrailLog, Node
from tests.virtual_time import pass_time


async def test_who_comes_behind_a_commit_that_fails_does_not_wait_as_long_again(books: Books, log: FrailLog) -> None:
    log.cut = True
    loop = asyncio.get_running_loop()
    told: dict[str, float] = {}

    async def come(name: str, after: float) -> None:
        await pass_time(after)
        node, came = Node(books, name), loop.time()
        await node.talk()
        assert [event.said for event in node.heard if isinstance(event, Closed)] == [OUTAGE]
        told[name] = loop.time() - came

    await asyncio.gather(come("web-1", 0.0), come("web-2", 1.0), come("web-3", 14.0))
    assert max(told.values()) < PATIENCE + 1.0
