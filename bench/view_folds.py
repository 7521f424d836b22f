"""What it takes to fold a log into the views, by parts that take turns, some thousand events at a time.

- `decode`: bytes to commits, checked as every reader checks them.
- `views`: `Store.fold`, which is all of the rebuild but reading and decoding.
- `fold`: the same folds on a cursor that answers what SQLite answered, and writes nothing: Python alone.
- `sqlite`: the rows that the folds wrote, by the same statements in transactions as large, and nothing else.
"""

from __future__ import annotations

import sqlite3
import statistics
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Self

import msgspec

from bench.visits import SITE
from dnms.bus.port import Record
from dnms.bus.reading import Checked
from dnms.events import subjects
from dnms.events.commit import Stored
from dnms.projections import PROJECTIONS
from dnms.projections.building import Aside, Building
from dnms.projections.runner import MAX_EVENTS
from dnms.projections.store import BUILDING_CACHE_KIB, Store

FILE = "views.db.00000000"


class Part(msgspec.Struct, frozen=True):
    """One side."""

    cpu_us: float  # an event, over all of them
    per_second: float  # events, of its CPU
    slowest: float  # the same in the slowest tenth of the turns, by their median


class Folds(msgspec.Struct, frozen=True):
    """All of them."""

    events: int
    rebuild: float  # events a second of CPU: decode, views, and what is done at the end
    decode: Part
    views: Part
    fold: Part
    sqlite: Part
    finish_us: float  # an event: what is sorted at the end, indexes too
    by_view: dict[str, float]  # microseconds of `fold` an event
    rows_an_event: float
    bytes_an_event: float  # of the file


class Recorder(Building):
    """A cursor that keeps what was asked with the answers, and what was written."""

    def __init__(self, db: sqlite3.Connection) -> None:
        super().__init__(db)
        self.answers: list[list[Any]] = []
        self.written: list[tuple[str, list[Any]]] = []
        self._rows: Iterator[Any] = iter(())

    def execute(self, sql: str, values: Any = ()) -> Recorder:
        """One statement."""
        rows = super().execute(sql, values)._all()
        self.answers.append(rows)
        self._rows = iter(rows)
        if not sql.lstrip().startswith("SELECT"):
            self.written.append((sql, [values]))
        return self

    def executemany(self, sql: str, values: Iterable[Any]) -> Recorder:
        """One statement for many rows."""
        rows = list(values)
        super().executemany(sql, rows)
        if rows:
            self.written.append((sql, rows))
        return self

    def fetchone(self) -> Any:
        """The next row."""
        return next(self._rows, None)

    def fetchall(self) -> list[Any]:
        """All rows that are left."""
        return list(self._rows)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Any:
        return next(self._rows)

    def _all(self) -> list[Any]:
        return super().fetchall()


class Replayer(Building):
    """A cursor that gives the answers of a recorder, and drops what is written."""

    def __init__(self, db: sqlite3.Connection, answers: Sequence[list[Any]]) -> None:
        super().__init__(db)
        self._answers = iter(answers)
        self._rows: Iterator[Any] = iter(())

    def execute(self, _: str, __: Any = ()) -> Replayer:
        """One statement."""
        self._rows = iter(next(self._answers))
        return self

    def executemany(self, _: str, values: Iterable[Any]) -> Replayer:
        """Rows that are made, as they would be to be written."""
        for _row in values:
            pass
        return self

    def fetchone(self) -> Any:
        """The next row."""
        return next(self._rows, None)

    def fetchall(self) -> list[Any]:
        """All rows that are left."""
        return list(self._rows)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Any:
        return next(self._rows)


class Turns:
    """The sides with their files, and how long each took so far."""

    def __init__(self, folder: Path, log_id: str) -> None:
        self.file = folder / FILE
        self.store = Store.create(self.file, PROJECTIONS, site=SITE, log_id=log_id)
        self._checked = Checked([subjects.everything(SITE)], after=0)
        self._recorded, _ = _empty(folder / "recorded.sqlite")
        self._bare, self._aside = _empty(folder / "bare.sqlite")
        self._took: dict[str, list[float]] = {name: [] for name in ("decode", "views", "fold", "sqlite")}
        self._by_view = {projection.name: 0.0 for projection in PROJECTIONS}
        self._events: list[int] = []
        self._rows = 0

    def take(self, records: Sequence[Record]) -> None:
        """Everybody's turn."""
        began = time.thread_time()
        batch = [self._checked.take(record) for record in records]
        self._took["decode"].append(time.thread_time() - began)
        self._events.append(sum(len(stored.commit.events) for stored in batch))
        began = time.thread_time()
        self.store.fold(batch, caught_up=False)
        self._took["views"].append(time.thread_time() - began)
        self._python_and_sqlite(batch)

    def _python_and_sqlite(self, batch: Sequence[Stored]) -> None:
        fold, written = 0.0, list[tuple[str, list[Any]]]()
        self._recorded.execute("BEGIN")
        for projection in PROJECTIONS:
            recorder = Recorder(self._recorded)
            projection.fold(recorder, batch)
            written += recorder.written
            replayer = Replayer(self._recorded, recorder.answers)
            began = time.thread_time()
            projection.fold(replayer, batch)
            took = time.thread_time() - began
            fold += took
            self._by_view[projection.name] += took
        self._recorded.execute("COMMIT")
        self._took["fold"].append(fold)
        self._rows += sum(sql.count("(?") * len(rows) for sql, rows in written if sql.startswith("INSERT"))
        began = time.thread_time()
        self._bare.execute("BEGIN")
        for sql, rows in written:
            self._bare.executemany(sql, rows)
        self._bare.execute("COMMIT")
        self._took["sqlite"].append(time.thread_time() - began)

    def outcome(self) -> Folds:
        """What all turns came to; closes the files."""
        began = time.thread_time()
        self.store.fold((), caught_up=True)
        finishing = time.thread_time() - began
        self.store.close()
        self._aside.settle()
        for db in (self._recorded, self._bare):
            db.close()
        events = sum(self._events)
        parts = {name: self._part(took, events) for name, took in self._took.items()}
        return Folds(
            events=events,
            rebuild=events / (sum(self._took["decode"]) + sum(self._took["views"]) + finishing),
            finish_us=1e6 * finishing / events,
            by_view={name: 1e6 * took / events for name, took in self._by_view.items()},
            rows_an_event=self._rows / events,
            bytes_an_event=self.file.stat().st_size / events,
            **parts,
        )

    def _part(self, took: Sequence[float], events: int) -> Part:
        rates = sorted(count / seconds for count, seconds in zip(self._events, took, strict=True))
        slowest = statistics.median(rates[: max(1, len(rates) // 10)])
        return Part(cpu_us=1e6 * sum(took) / events, per_second=events / sum(took), slowest=slowest)


def measure(folder: Path, log_id: str, records: Iterable[Record], events_a_record: float) -> Folds:
    """Fold a log into files in this folder; the views are `folder / FILE` then."""
    turns, size, batch = Turns(folder, log_id), max(1, int(MAX_EVENTS / events_a_record)), list[Record]()
    for record in records:
        batch.append(record)
        if len(batch) == size:
            turns.take(batch)
            batch = []
    if batch:
        turns.take(batch)
    return turns.outcome()


def _empty(file: Path) -> tuple[sqlite3.Connection, Aside]:
    """A file with the views' tables, built as the views are."""
    Store.create(file, PROJECTIONS, site=SITE, log_id="").close()
    db = sqlite3.connect(file, isolation_level=None, uri=True)
    for setting in ("synchronous = OFF", f"cache_size = -{BUILDING_CACHE_KIB}"):
        db.execute(f"PRAGMA {setting}")
    return db, Aside(db, file, PROJECTIONS)
