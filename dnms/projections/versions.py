"""Tables whose rows keep their former versions, so that every question can be asked as of any commit.

A table `T` is stored as `T_row`, with the sequence of the commit from which a version stands and of the one until which
it stood; a version that stands has the largest number there. The view `T` is what stands now. Whoever asks about the
past puts a view of the same name before it (`Table.past`), so that one SQL serves both.

Of several changes of a row in one commit there is one version, the last. What is written depends on the log alone.
"""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Collection
from typing import Any, Final, Generic, TypeVar

import msgspec

from dnms.projections.building import UNTIL, Building, past
from dnms.projections.writing import append, insert

STANDS: Final = (1 << 63) - 1
"""Until which sequence a row stands that stands now."""

MOMENT: Final = "CREATE TEMP TABLE moment (sequence INTEGER NOT NULL)"
"""Of one row: as of which commit a connection is asked."""
AS_OF: Final = "(SELECT sequence FROM moment)"

R = TypeVar("R", bound=tuple[Any, ...])

_Key = tuple[Any, ...]


class Table(msgspec.Struct, frozen=True):
    """One table: its columns with their declarations, the key first."""

    name: str
    key: dict[str, str]
    columns: dict[str, str]
    indexes: tuple[str, ...] = ()  # columns by which it is asked too

    @property
    def schema(self) -> str:
        """The statements that make it."""
        declared = ", ".join(f"{name} {kind}" for name, kind in (self.key | self.columns).items())
        key = ", ".join(self.key)
        return (
            f"CREATE TABLE {self.name}_row ({declared}, from_sequence INTEGER NOT NULL,"
            f" {UNTIL} INTEGER NOT NULL, PRIMARY KEY ({key}, {UNTIL})) WITHOUT ROWID;"
            f"CREATE VIEW {self.name} AS SELECT {self._names} FROM {self.name}_row WHERE until_sequence = {STANDS};"
        )

    @property
    def asked_by(self) -> tuple[str, ...]:
        """The statements that make its indexes, which no fold reads."""
        return tuple(
            f"CREATE INDEX {self.name}_by_{column} ON {self.name}_row ({column}, until_sequence)"
            for column in self.indexes
        )

    @property
    def past(self) -> str:
        """The view that shows it as of `moment`, in its place."""
        return (
            f"CREATE TEMP VIEW {self.name} AS SELECT {self._names} FROM main.{self.name}_row"
            f" WHERE from_sequence <= {AS_OF} AND until_sequence > {AS_OF}"
        )

    @property
    def _names(self) -> str:
        return ", ".join(self.key | self.columns)


AT_ONCE = 1_000  # values in one statement


def rows_of(cursor: sqlite3.Cursor, select: str, values: Collection[Any]) -> list[tuple[Any, ...]]:
    """The rows in which the column that `select` ends with is one of these, asked for by many values at a time."""
    ordered = sorted(values)  # neighbours are on one page
    rows: list[tuple[Any, ...]] = []
    for first in range(0, len(ordered), AT_ONCE):
        part = ordered[first : first + AT_ONCE]
        rows += cursor.execute(f"{select} IN ({', '.join('?' * len(part))})", part).fetchall()
    return rows


class Rows(Generic[R]):
    """What a batch of commits makes of the rows of one table: worked on in memory, then written."""

    def __init__(self, cursor: sqlite3.Cursor, table: Table, make: type[R]) -> None:
        """`make` is a named tuple of the columns behind the key."""
        self._cursor = cursor
        self._table = table
        self._make = make
        self._width = len(table.key)
        self._stood = past(f"{table.name}_row") if isinstance(cursor, Building) else f"{table.name}_row"
        self._now: dict[_Key, tuple[R, int] | None] = {}  # each with the sequence from which it stands
        self._keys: defaultdict[Any, list[_Key]] = defaultdict(list)  # of these, by their first part
        self._whole: set[Any] = set()  # the first parts of which all rows are known
        self._changed: set[_Key] = set()
        self._past: list[tuple[Any, ...]] = []
        names = ", ".join(table.columns)
        self._one = (
            f"SELECT {names}, from_sequence FROM {table.name}_row"
            f" WHERE {' AND '.join(f'{name} = ?' for name in table.key)} AND until_sequence = {STANDS}"
        )
        self._several = (
            f"SELECT {', '.join(table.key)}, {names}, from_sequence FROM {table.name}_row"
            f" WHERE until_sequence = {STANDS} AND {next(iter(table.key))}"
        )

    def learn(self, firsts: Collection[Any]) -> None:
        """Look up at once all rows that stand with one of these as the first part of their key."""
        width, make, known = self._width, self._make, self._now
        firsts = [first for first in firsts if first not in self._whole]
        for row in rows_of(self._cursor, self._several, firsts):
            if (key := row[:width]) not in known:
                self._know(key, (tuple.__new__(make, row[width:-1]), row[-1]))
        self._whole.update(firsts)

    def get(self, *key: Any) -> R | None:
        """The row that stands."""
        entry = self._now[key] if key in self._now else self._entry(key)
        return None if entry is None else entry[0]

    def under(self, first: Any) -> dict[_Key, R]:
        """All rows that stand with this first part of the key."""
        if first not in self._whole:
            self.learn((first,))
        return {key: entry[0] for key in self._keys[first] if (entry := self._now[key]) is not None}

    def set(self, row: R | None, *key: Any, sequence: int) -> None:
        """From the commit at `sequence` on there is this row, or none."""
        entry = self._now[key] if key in self._now else self._entry(key)
        if (None if entry is None else entry[0]) == row:
            return
        if entry is not None and entry[1] < sequence:
            self._past.append((*key, *entry[0], entry[1], sequence))
        self._now[key] = None if row is None else (row, sequence)
        self._changed.add(key)

    def write(self) -> None:
        """Write all that has changed."""
        table = self._table
        changed = [(key, self._now[key]) for key in sorted(self._changed)]  # neighbours are on one page
        self._cursor.executemany(
            f"DELETE FROM {table.name}_row WHERE {' AND '.join(f'{name} = ?' for name in table.key)}"
            f" AND until_sequence = {STANDS}",
            [key for key, entry in changed if entry is None],
        )
        standing = [(*key, *entry[0], entry[1], STANDS) for key, entry in changed if entry is not None]
        insert(self._cursor, f"INSERT OR REPLACE INTO {table.name}_row", standing)
        append(self._cursor, self._stood, self._past, self._width)

    def _entry(self, key: _Key) -> tuple[R, int] | None:
        """Of one that is not known yet."""
        row = None if key[0] in self._whole else self._cursor.execute(self._one, key).fetchone()
        entry = None if row is None else (tuple.__new__(self._make, row[:-1]), row[-1])
        self._know(key, entry)
        return entry

    def _know(self, key: _Key, entry: tuple[R, int] | None) -> None:
        self._now[key] = entry
        self._keys[key[0]].append(key)
