"""The views for those who ask: one consistent answer at a time, with the position that it is true for."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from functools import partial
from pathlib import Path
from urllib.parse import quote

import msgspec

from dnms.projections import PROJECTIONS, files
from dnms.projections.connection import Connection
from dnms.projections.events.fold import HOUR
from dnms.projections.files import ViewsError, ViewsMissing, ViewsOutdated
from dnms.projections.projection import Projection
from dnms.projections.store import STOPPED, versions
from dnms.projections.text import instant, microseconds
from dnms.projections.versions import MOMENT, STANDS

MAX_READERS = 4  # connections, each with a thread; an answer takes a millisecond
CHUNK = 64  # rows that are fetched at once where a query is read row by row
LOOK = 0.1  # seconds between two looks for what a caller waits for


Moment = datetime | int
"""An instant, for the last commit that names no later time; or the sequence of a commit."""


class NoSuchMoment(Exception):
    """The views know of no such moment; one line that says which they know."""


class ViewPosition(msgspec.Struct, frozen=True, kw_only=True):
    """How far the log is folded in the answers that go with it."""

    site: str
    log_id: str
    sequence: int
    time: datetime  # of the commit there
    commits: int
    events: int  # 0 as of the past, where nobody counts them


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

    db: Connection
    position: ViewPosition


class Views:
    """The views at `path`. Opens what is needed; close it at the end."""

    def __init__(self, path: Path, *, projections: Sequence[Projection] = PROJECTIONS) -> None:
        self._path = path
        self._versions = versions(projections)
        self._past = [statement for projection in projections for statement in projection.past]
        self._idle: dict[bool, list[tuple[Path, Connection]]] = {False: [], True: []}  # by: of the past
        self._readers = asyncio.Semaphore(MAX_READERS)

    @asynccontextmanager
    async def read(self, at: Moment | None = None) -> AsyncGenerator[Reading, None]:
        """A moment of the views to ask: the newest, or as of an instant or a commit.

        ViewsMissing, ViewsOutdated or ViewsError if there is none; NoSuchMoment if they have not come to it, or nothing
        had happened by then.
        """
        async with self._readers:
            file, db = await self._connection(past=at is not None)
            sound = False
            try:
                try:
                    yield Reading(db, await db.call(partial(_begin, at=at)))
                finally:
                    db.send(_end)  # to wait for it would be a third of the time of a short answer
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
                    self._idle[at is not None].append((file, db))
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
        for idle in self._idle.values():
            while idle:
                _, db = idle.pop()
                await db.close()

    async def _connection(self, *, past: bool) -> tuple[Path, Connection]:
        file = files.current(self._path)
        if file is None:
            raise ViewsMissing(f"there are no views at {self._path} yet; `dnms serve` folds them from the log")
        idle = self._idle[past]
        while idle:
            known, db = idle.pop()
            if known == file:
                return known, db
            await db.close()  # the views were rebuilt
        uri = f"file:{quote(str(file))}?mode=ro"
        db = Connection(lambda: sqlite3.connect(uri, uri=True, isolation_level=None), CHUNK)
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
        if past:
            await db.execute("PRAGMA temp_store = MEMORY")
            for statement in (MOMENT, f"INSERT INTO moment VALUES ({STANDS})", *self._past):
                await db.execute(statement)
        return file, db


def _begin(db: sqlite3.Connection, at: Moment | None) -> ViewPosition:
    """Hold the views as they are, and say how far they are then, or where they were at a moment. NoSuchMoment."""
    db.execute("BEGIN")
    [row] = db.execute("SELECT site, log_id, sequence, time, commits, events FROM view_position")
    newest = ViewPosition(
        site=row[0], log_id=row[1], sequence=row[2], time=instant(row[3]), commits=row[4], events=row[5]
    )
    if at is None:
        return newest
    position = _position_at(db, newest, at)
    db.execute("UPDATE moment SET sequence = ?", (position.sequence,))
    return position


def _end(db: sqlite3.Connection) -> None:
    if db.in_transaction:
        db.execute("ROLLBACK")  # nothing was written


def _position_at(db: sqlite3.Connection, newest: ViewPosition, at: Moment) -> ViewPosition:
    """Where the log was at a moment. NoSuchMoment."""
    if isinstance(at, int):
        if not 0 < at <= newest.sequence:
            raise NoSuchMoment(f"there is no commit {at}; the views have the commits 1 to {newest.sequence}")
        sequence = at
    else:
        if at > newest.time:
            return newest
        sequence = _sequence_at(db, microseconds(at))
        if not sequence:
            raise NoSuchMoment(f"nothing had happened by {at.isoformat()}")
    [row] = db.execute("SELECT time FROM main.event_commit WHERE sequence = ?", (sequence,))
    return msgspec.structs.replace(newest, sequence=sequence, time=instant(row[0]), commits=sequence, events=0)


def _sequence_at(db: sqlite3.Connection, time: int) -> int:
    """The last commit that names no later time; 0 if there is none."""
    hour = time // HOUR
    [(before,)] = db.execute("SELECT max(last) FROM event_hour WHERE hour < ?", (hour,))
    [(within,)] = db.execute(
        "SELECT max(c.sequence) FROM event_hour h JOIN main.event_commit c ON c.sequence BETWEEN h.first AND h.last"
        " WHERE h.hour = ? AND c.time <= ?",
        (hour, time),
    )
    return max(before or 0, within or 0)
