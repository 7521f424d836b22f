"""When a search asks first."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import cast

from dnms.agents.node.machine import Machine
from dnms.agents.node.search import Search
from tests.unit.agents.conftest import until


class Link:
    """A link on which nobody answers; when each datagram was sent."""

    def __init__(self) -> None:
        self.chance = random.Random(1)
        self.sent: list[float] = []

    def open(self, interface: int, receive: Callable[..., None]) -> Link:
        return self

    def send(self, data: bytes, group: str) -> None:
        self.sent.append(asyncio.get_running_loop().time())

    def close(self) -> None:
        """Nothing is open."""


async def first_after(search: Search, link: Link) -> float:
    """How long it takes from now until it asks."""
    began, link.sent = asyncio.get_running_loop().time(), []
    task = asyncio.create_task(search.candidates())
    await until(lambda: bool(link.sent))
    task.cancel()
    return link.sent[0] - began


async def test_who_was_delayed_already_asks_at_once_and_draws_the_next_time() -> None:
    link = Link()
    search = Search(cast("Machine", link), 2, duid=b"d")
    search.is_spread = True
    assert await first_after(search, link) == 0
    search.begin_anew()
    assert await first_after(search, link) > 0
