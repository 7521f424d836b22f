"""The views for those who ask: one consistent answer at a time, with the position that it is true for."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from urllib.parse import quote

import aiosqlite
import msgspec

from dnms.projections import PROJECTIONS, files
from dnms.projections.files import ViewsError, ViewsMissing, ViewsOutdated
from dnms.projections.projection import Projection
from dnms.projections.store import STOPPED, versions
from dnms.projections.text import instant

MAX_READERS = 4  # connections, each with a thread; an answer takes a millisecond
LOOK = 0.1  # seconds between two looks for what a caller waits for


class ViewPosition(msgspec.Struct, frozen=True, kw_only=True):
    """How far the log is folded in the answers that go with it."""

    site: str
    log_id: str
    sequence: int
    time: datetime  # of the commit there
    commits: int
    events: int


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """How the views are.

    `state` is `following` (at the log's end when last heard), `folding` (behind it), `stopped` (`why` and
    `explanation` say what was wrong with the log), `rebuilding`, `missing` or `outdated`; `running`: a process keeps
    them up.
    """

    state: str
    running: bool
    why: str = ""
    explanation: str = ""
    position: ViewPosition | None = None


class Reading(msgspec.Struct, frozen=True):
    """One moment of the views: every query on `db` sees it."""

    db: aiosqlite.Connection
    position: ViewPosition


class Views:
    """The views at `path`. Opens what is needed; close it at the end."""

    def __init__(self, path: Path, *, projections: Sequence[Projection] = PROJECTIONS) -> None:
        self._path = path
        self._versions = versions(projections)
        self._idle: list[tuple[Path, aiosqlite.Connection]] = []
        self._readers = asyncio.Semaphore(MAX_READERS)

    @asynccontextmanager
    async def read(self) -> AsyncGenerator[Reading, None]:
        """A moment of the views to ask. ViewsMissing, ViewsOutdated or ViewsError if there is none."""
        async with self._readers:
            file, db = await self._connection()
            sound = False
            try:
                await db.execute("BEGIN")
                try:
                    yield Reading(db, await _position(db))
                finally:
                    await db.execute("ROLLBACK")  # nothing was written
                sound = True
            except sqlite3.DatabaseError as error:
                raise ViewsError(f"cannot read {self._path}: {error}; run `dnms view rebuild`") from error
            except (asyncio.CancelledError, GeneratorExit):
                raise
            except Exception:
                sound = True  # the caller's own
                raise
            finally:
                if sound:
                    self._idle.append((file, db))
                else:
                    await db.close()

    async def status(self) -> Status:
        """How the views are; never fails for what is wrong with them."""
        running = files.is_written(self._path)
        try:
            async with self.read() as reading:
                [row] = await reading.db.execute_fetchall("SELECT state, why, explanation FROM view_state")
        except (ViewsMissing, ViewsOutdated) as error:
            state = "rebuilding" if running else error.why.removeprefix("views-")
            return Status(state=state, running=running, why=error.why, explanation=str(error))
        except ViewsError as error:
            return Status(state=STOPPED, running=running, why=error.why, explanation=str(error))
        return Status(state=row[0], running=running, why=row[1], explanation=row[2], position=reading.position)

    async def reached(self, sequence: int, *, within: float) -> bool:
        """Wait until the commit at `sequence` is folded; False if it is not within so many seconds."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + within
        while True:
            try:
                async with self.read() as reading:
                    if reading.position.sequence >= sequence:
                        return True
            except ViewsError:
                pass  # they may be under way
            if loop.time() >= deadline:
                return False
            await asyncio.sleep(LOOK)

    async def close(self) -> None:
        """Close every connection."""
        while self._idle:
            _, db = self._idle.pop()
            await db.close()

    async def _connection(self) -> tuple[Path, aiosqlite.Connection]:
        file = files.current(self._path)
        if file is None:
            raise ViewsMissing(f"there are no views at {self._path} yet; `dnms serve` folds them from the log")
        while self._idle:
            known, db = self._idle.pop()
            if known == file:
                return known, db
            await db.close()  # the views were rebuilt
        db = aiosqlite.connect(f"file:{quote(str(file))}?mode=ro", uri=True, isolation_level=None)
        try:
            await db
        except sqlite3.Error as error:
            raise ViewsError(f"cannot open {self._path}: {error}") from error
        try:
            found = {row[0]: row[1] for row in await db.execute_fetchall("SELECT * FROM view_projection")}
        except sqlite3.OperationalError:  # no such table
            found = {}
        except sqlite3.DatabaseError as error:
            await db.close()
            raise ViewsError(f"{self._path} is damaged: {error}; run `dnms view rebuild`") from error
        if found != self._versions:
            await db.close()
            raise ViewsOutdated(f"another release wrote {self._path}; `dnms view rebuild` folds them anew")
        return file, db


async def _position(db: aiosqlite.Connection) -> ViewPosition:
    [row] = await db.execute_fetchall("SELECT site, log_id, sequence, time, commits, events FROM view_position")
    return ViewPosition(
        site=row[0], log_id=row[1], sequence=row[2], time=instant(row[3]), commits=row[4], events=row[5]
    )
