"""Fold the log again, into another file, and compare it with the views, table by table and row by row."""

from __future__ import annotations

import asyncio
import hashlib
import sqlite3
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec

from dnms.bus.port import Log, LogForked
from dnms.bus.reading import Position
from dnms.projections import PROJECTIONS, files
from dnms.projections.files import ViewsError, ViewsMissing, ViewsOutdated
from dnms.projections.projection import Projection
from dnms.projections.runner import fold_all, opened
from dnms.projections.store import Store, versions

MAX_DIFFERENCES = 10  # listed of a table; the first tell what is wrong

NOT_COMPARED = {"view_state"}  # says how the runner is, and not what is in the log


class TableVerification(msgspec.Struct, frozen=True, kw_only=True):
    """One table, in the views and folded again."""

    table: str
    rows: int  # in the views
    digest: str  # of these rows, in the order of the table's key
    expected_rows: int
    expected_digest: str
    differences: list[str]  # the first ones

    @property
    def equal(self) -> bool:
        """Whether both are the same."""
        return self.digest == self.expected_digest and self.rows == self.expected_rows


class Verification(msgspec.Struct, frozen=True, kw_only=True):
    """Whether the views are what the log says, up to their position."""

    log_id: str
    sequence: int
    commits: int
    events: int
    equal: bool
    tables: list[TableVerification]

    @property
    def differences(self) -> list[str]:
        """Those of all tables, each with its table's name."""
        return [f"{table.table}: {one}" for table in self.tables for one in table.differences]


async def verify(log: Log, path: Path, *, projections: Sequence[Projection] = PROJECTIONS) -> Verification:
    """Fold the log up to the position of the views at `path`, and compare. The views may go on meanwhile.

    ViewsMissing, ViewsOutdated, ViewsError; what is wrong with the log is raised: LogForked if it is another one than
    was folded into the views.
    """
    with tempfile.TemporaryDirectory(prefix="verify-", dir=path.parent) as directory:
        again = Path(directory) / "views.db"
        held = await asyncio.to_thread(_Held, path, projections)
        try:
            position = held.position
            async with opened(lambda: Store.create(again, projections, site=held.site, log_id=log.log_id)) as writer:
                await fold_all(log, held.site, writer, until=position.sequence)
                if writer.store.position != position:
                    raise LogForked(f"the views were folded from another log than {log.log_id}, or from a longer one")
            tables = await asyncio.to_thread(held.compare, again)
        except sqlite3.Error as error:
            raise ViewsError(f"cannot verify {path}: {error}") from error
        finally:
            await asyncio.to_thread(held.close)
    return Verification(
        log_id=position.log_id,
        sequence=position.sequence,
        commits=held.commits,
        events=held.events,
        equal=all(table.equal for table in tables),
        tables=tables,
    )


class _Held:
    """The views as of one moment, held by an open transaction."""

    def __init__(self, path: Path, projections: Sequence[Projection]) -> None:
        file = files.current(path)
        if file is None:
            raise ViewsMissing(f"there are no views at {path}; run `dnms view rebuild`")
        self._db = sqlite3.connect(
            f"file:{quote(str(file))}?mode=ro", uri=True, isolation_level=None, check_same_thread=False
        )
        try:
            self._db.execute("BEGIN")
            if dict(self._db.execute("SELECT name, version FROM view_projection")) != versions(projections):
                raise ViewsOutdated(f"another release wrote {path}; run `dnms view rebuild`")
            [row] = self._db.execute("SELECT log_id, sequence, commit_id, site, commits, events FROM view_position")
        except sqlite3.Error as error:
            self._db.close()
            raise ViewsError(f"cannot read {path}: {error}; run `dnms view rebuild`") from error
        except ViewsOutdated:
            self._db.close()
            raise
        self.position = Position(*row[:3])
        self.site, self.commits, self.events = row[3:]

    def compare(self, again: Path) -> list[TableVerification]:
        other = sqlite3.connect(f"file:{quote(str(again))}?mode=ro", uri=True, isolation_level=None)
        try:
            names = _tables(self._db) | _tables(other)
            return [_compare(self._db, other, table) for table in sorted(names - NOT_COMPARED)]
        finally:
            other.close()

    def close(self) -> None:
        self._db.close()


def _tables(db: sqlite3.Connection) -> set[str]:
    return {row[0] for row in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}


def _compare(views: sqlite3.Connection, again: sqlite3.Connection, table: str) -> TableVerification:
    columns = list(again.execute("SELECT name, pk FROM pragma_table_info(?)", (table,)))
    key = [name for _, name in sorted((pk, name) for name, pk in columns if pk)]
    places = [[name for name, _ in columns].index(name) for name in key]
    found, expected = _Rows(views, table, key), _Rows(again, table, key)
    differences = [
        _describe([name for name, _ in columns], places, mine, theirs)
        for mine, theirs in _differing(iter(found), iter(expected), places)
    ]
    return TableVerification(
        table=table,
        rows=found.count,
        digest=found.digest.hexdigest(),
        expected_rows=expected.count,
        expected_digest=expected.digest.hexdigest(),
        differences=differences,
    )


Row = tuple[Any, ...]


class _Rows:
    """The rows of a table in the order of its key, counted and hashed as they pass."""

    def __init__(self, db: sqlite3.Connection, table: str, key: Sequence[str]) -> None:
        self._rows = db.execute(f"SELECT * FROM {table} ORDER BY {', '.join(key)}")
        self.count = 0
        self.digest = hashlib.blake2b(digest_size=16)

    def __iter__(self) -> Iterator[Row]:
        for row in self._rows:
            self.count += 1
            self.digest.update(msgspec.msgpack.encode(row))
            yield row


def _differing(
    found: Iterator[Row], expected: Iterator[Row], places: Sequence[int]
) -> Iterator[tuple[Row | None, Row | None]]:
    """The first rows that are not the same; reads both to their ends, for their digests."""
    mine, theirs = next(found, None), next(expected, None)
    listed = 0
    while mine is not None or theirs is not None:
        if mine == theirs:
            mine, theirs = next(found, None), next(expected, None)
            continue
        key_mine = None if mine is None else [mine[place] for place in places]
        key_theirs = None if theirs is None else [theirs[place] for place in places]
        only_mine = key_theirs is None or (key_mine is not None and key_mine < key_theirs)
        only_theirs = not only_mine and (key_mine is None or key_theirs < key_mine)  # type: ignore[operator]
        listed += 1
        if listed <= MAX_DIFFERENCES:
            yield None if only_theirs else mine, None if only_mine else theirs
        if not only_theirs:
            mine = next(found, None)
        if not only_mine:
            theirs = next(expected, None)


def _describe(columns: Sequence[str], places: Sequence[int], mine: Row | None, theirs: Row | None) -> str:
    one = mine or theirs or ()
    where = ", ".join(f"{columns[place]} {_text(one[place])}" for place in places)
    if mine is None:
        return f"{where}: missing in the views"
    if theirs is None:
        return f"{where}: not in the log"
    wrong = [
        f"{name} is {_text(one)} and should be {_text(other)}"
        for name, one, other in zip(columns, mine, theirs, strict=False)
        if one != other
    ]
    return f"{where}: {'; '.join(wrong)}"


def _text(value: Any) -> str:
    return value.hex() if isinstance(value, bytes) else repr(value)
