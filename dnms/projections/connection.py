"""A reader's connection to the views, with the thread that it lives on."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from typing import TypeVar

import aiosqlite

T = TypeVar("T")


class Connection(aiosqlite.Connection):
    """As aiosqlite has it, and besides for questions of several statements.

    From the loop to the thread and back takes longer than most of these do.
    """

    async def call(self, question: Callable[[sqlite3.Connection], T]) -> T:
        """What `question` answers, on the connection's thread; whatever it raises is raised here."""
        answer: T = await self._execute(lambda: question(self._conn))  # type: ignore[no-untyped-call]
        return answer

    def send(self, work: Callable[[sqlite3.Connection], None]) -> None:
        """Have `work` done before all that is asked later, and wait for nothing."""
        done = asyncio.get_running_loop().create_future()
        done.add_done_callback(lambda one: one.cancelled() or one.exception())  # what fails shows in what is asked next
        self._tx.put_nowait((done, lambda: work(self._conn)))
