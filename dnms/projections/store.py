"""The views' file in the hands of its one writer: rows and the position that they belong to commit together.

All of it is synchronous, and is called on one thread, but for `interrupt`.
"""

from __future__ import annotations

import gc
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from dnms.bus.port import LogDamaged
from dnms.bus.reading import Position
from dnms.events.commit import Stored
from dnms.projections.building import Aside, Building
from dnms.projections.projection import Projection

LAYOUT = 1
"""The version of the tables below; raised like a projection's version."""

SCHEMA = """
CREATE TABLE view_position (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    site TEXT NOT NULL,
    log_id TEXT NOT NULL,
    sequence INTEGER NOT NULL,    -- of the last commit that is folded
    commit_id BLOB NOT NULL,
    time INTEGER NOT NULL,        -- of that commit
    commits INTEGER NOT NULL,
    events INTEGER NOT NULL
);
CREATE TABLE view_subject (
    subject TEXT PRIMARY KEY,
    sequence INTEGER NOT NULL     -- of its newest commit
) WITHOUT ROWID;
CREATE TABLE view_projection (
    name TEXT PRIMARY KEY,
    version INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE view_state (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    state TEXT NOT NULL,          -- folding: behind the log; following: at its end; stopped
    why TEXT NOT NULL,            -- a stable word, when stopped
    explanation TEXT NOT NULL
);
"""

CACHE_KIB = 65_536
BUILDING_CACHE_KIB = 32_768  # beside that of `building`
COMMITTED_AT_ONCE = 200_000
"""Events at most that are lost with a fold that fails while a file is built; each page is written once for so many."""

FOLDING, FOLLOWING, STOPPED = "folding", "following", "stopped"


def versions(projections: Sequence[Projection]) -> dict[str, int]:
    """What a file must have been made by to be read: the layout and every projection."""
    return {"layout": LAYOUT, **{projection.name: projection.version for projection in projections}}


@contextmanager
def _no_garbage() -> Iterator[None]:
    """A fold makes rows by the hundred thousand, and none in a cycle: to look for one is a fifth of its time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


class Store:
    """An open file of views, for its writer."""

    def __init__(self, file: Path, projections: Sequence[Projection], *, building: bool = False) -> None:
        """Open an existing file; `usable` says whether its rows can be used. sqlite3.Error if it is damaged."""
        self.file = file
        self._building = building
        self._projections = projections
        self._versions: dict[str, int] = {}
        self._heads: dict[str, int] = {}
        self._state = FOLDING
        self._position = Position("")
        self._aside: Aside | None = None
        self._committed = self._waiting = 0  # events, of this process
        self._db = sqlite3.connect(file, isolation_level=None, uri=True)
        try:
            self._db.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
            self._load()
            if building:
                # A fold that fails is rolled back. A journal in memory holds each page that a batch touches: of a long
                # log hundreds of megabytes.
                self._db.execute("PRAGMA journal_mode = DELETE")
                self._db.execute("PRAGMA synchronous = OFF")
            else:
                self._finish()
        except BaseException:
            self._db.close()
            raise

    @classmethod
    def create(cls, file: Path, projections: Sequence[Projection], *, site: str, log_id: str) -> Store:
        """Make an empty file for the log of a site.

        Until the first end of the log nobody reads it, and whatever stops us, it is begun anew: so it has no indexes
        yet that no fold needs, and waits for no disk.
        """
        db = sqlite3.connect(file)
        try:
            db.executescript(SCHEMA + "".join(projection.schema for projection in projections))
            db.execute("INSERT INTO view_position VALUES (1, ?, ?, 0, x'', 0, 0, 0)", (site, log_id))
            db.execute("INSERT INTO view_state VALUES (1, ?, '', '')", (FOLDING,))
            db.executemany("INSERT INTO view_projection VALUES (?, ?)", versions(projections).items())
            db.commit()
        finally:
            db.close()
        return cls(file, projections, building=True)

    @property
    def usable(self) -> bool:
        """Whether this release's projections wrote the rows."""
        return self._versions == versions(self._projections)

    @property
    def position(self) -> Position:
        """How far the log is folded."""
        return self._position

    def fold(self, batch: Sequence[Stored], *, caught_up: bool) -> None:
        """Take in commits in one transaction. LogDamaged if they do not follow what is folded; nothing changes then.

        While a file is built a transaction is of several batches: see `position` after a fold that failed.
        """
        heads = self._heads_after(batch)
        state = FOLLOWING if caught_up else FOLDING
        if not batch and state == self._state:
            return
        if self._building and self._aside is None and not caught_up:
            self._db.execute(f"PRAGMA cache_size = -{BUILDING_CACHE_KIB}")
            self._aside = Aside(self._db, self.file, self._projections)
        cursor = self._db.cursor() if self._aside is None else self._db.cursor(Building)
        if not self._db.in_transaction:
            cursor.execute("BEGIN IMMEDIATE")
        try:
            if batch:
                with _no_garbage():
                    happened = {type(event) for stored in batch for event in stored.commit.events}
                    for projection in self._projections:
                        if projection.kinds is None or not happened.isdisjoint(projection.kinds):
                            projection.fold(cursor, batch)
                self._move(cursor, batch, heads)
            cursor.execute("UPDATE view_state SET state = ?, why = '', explanation = ''", (state,))
            self._waiting += sum(len(stored.commit.events) for stored in batch)
            if caught_up or not self._building or self._waiting >= min(self._committed, COMMITTED_AT_ONCE):
                self._commit()
        except BaseException:
            if self._db.in_transaction:
                cursor.execute("ROLLBACK")
            if self._waiting:  # some batches before it are gone too
                self._waiting = 0
                self._load()
            raise
        self._state = state
        self._heads.update(heads)
        if caught_up and self._building:
            self._finish()
        if batch:
            self._position = Position(self._position.log_id, batch[-1].sequence, batch[-1].commit.id)

    def stop(self, why: str, explanation: str) -> None:
        """Write down that and why the log is not followed any further."""
        if self._db.in_transaction:
            self._commit()
        if self._building:
            self._finish()
        self._db.execute("UPDATE view_state SET state = ?, why = ?, explanation = ?", (STOPPED, why, explanation))
        self._state = STOPPED

    def interrupt(self) -> None:
        """Have a statement that runs fail, from another thread: to put a long log in order takes minutes."""
        with suppress(sqlite3.ProgrammingError):  # it is closed
            self._db.interrupt()

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def _commit(self) -> None:
        self._db.execute("COMMIT")
        self._committed, self._waiting = self._committed + self._waiting, 0

    def _finish(self) -> None:
        """Make it one that others read, and that outlives a power cut."""
        if self._aside is not None:
            self._aside.settle()
            self._aside = None
        if self.usable:
            for index in (index for projection in self._projections for index in projection.indexes):
                self._db.execute(index.replace("CREATE INDEX", "CREATE INDEX IF NOT EXISTS", 1))
        self._db.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
        # A power cut may take the last transactions, rows and position together: they are folded again.
        self._db.execute("PRAGMA synchronous = NORMAL")
        # Where it was none, this is a transaction: it waits until all that was written before it is on disk.
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA wal_autocheckpoint = 4000")
        self._db.execute("PRAGMA journal_size_limit = 67108864")
        self._building = False

    def _load(self) -> None:
        try:
            versions_found = dict(self._db.execute("SELECT name, version FROM view_projection"))
            [row] = self._db.execute("SELECT log_id, sequence, commit_id FROM view_position")
            self._heads = dict(self._db.execute("SELECT subject, sequence FROM view_subject"))
            [(self._state,)] = self._db.execute("SELECT state FROM view_state")
        except (sqlite3.OperationalError, ValueError):
            return  # another layout: not usable
        self._versions, self._position = versions_found, Position(*row)

    def _heads_after(self, batch: Sequence[Stored]) -> dict[str, int]:
        """The newest commit of each subject of the batch; LogDamaged where one does not name the one before it."""
        heads: dict[str, int] = {}
        last = self._position.sequence
        for stored in batch:
            if stored.sequence != last + 1:
                raise LogDamaged(f"{stored.subject}: the commit at {stored.sequence} comes after {last}: a gap")
            head = heads.get(stored.subject, self._heads.get(stored.subject, 0))
            if stored.commit.predecessor != head:
                raise LogDamaged(
                    f"{stored.subject}: the commit at {stored.sequence} follows {stored.commit.predecessor}, "
                    f"but {head} was folded last; commits are missing"
                )
            heads[stored.subject] = last = stored.sequence
        return heads

    def _move(self, cursor: sqlite3.Cursor, batch: Sequence[Stored], heads: dict[str, int]) -> None:
        newest = batch[-1]
        cursor.execute(
            "UPDATE view_position SET sequence = ?, commit_id = ?, time = ?,"
            " commits = commits + ?, events = events + ?",
            (
                newest.sequence,
                newest.commit.id,
                newest.commit.time,
                len(batch),
                sum(len(stored.commit.events) for stored in batch),
            ),
        )
        cursor.executemany("INSERT OR REPLACE INTO view_subject VALUES (?, ?)", heads.items())
