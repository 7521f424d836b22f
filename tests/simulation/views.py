"""The views of a simulated log: real projections in a real SQLite file, against a naive fold of the same commits."""

from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import Callable, Coroutine, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any, TypeVar, cast

from dnms.events.commit import Stored
from dnms.projections import PROJECTIONS, naive
from dnms.projections.comparison import compare
from dnms.projections.connection import Connection
from dnms.projections.store import Store
from dnms.projections.views import Reading, _begin
from tests.simulation.plans import SITE

MEMORY = Path("/dev/shm")  # a file in memory: thousands of them are written, and none has to outlive a power cut

T = TypeVar("T")


class _Connection:
    """As much of a `Connection` as queries use, without its thread: that took most of the time."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    async def execute_fetchall(self, sql: str, parameters: Any = ()) -> list[Any]:
        return self._db.execute(sql, parameters).fetchall()

    async def call(self, question: Callable[[sqlite3.Connection], T]) -> T:
        return question(self._db)


def wrong_in_views(stored: Sequence[Stored]) -> list[str]:
    """Where the views differ from a naive fold."""
    with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as directory:
        file = Path(directory) / "views.db"
        with closing(Store.create(file, PROJECTIONS, site=SITE, log_id="log")) as store:
            middle = len(stored) // 2
            store.fold(stored[:middle], caught_up=False)
            store.fold(stored[middle:], caught_up=True)
        with closing(sqlite3.connect(file)) as db:
            return _at_once(_differences(stored, cast("Connection", _Connection(db))))


async def _differences(stored: Sequence[Stored], db: Connection) -> list[str]:
    return await compare(naive.fold(stored), Reading(db, await db.call(partial(_begin, at=None))))


def _at_once(work: Coroutine[Any, Any, T]) -> T:
    """The result of what waits for nothing."""
    try:
        work.send(None)
    except StopIteration as done:
        return cast("T", done.value)
    raise AssertionError("it waits")
