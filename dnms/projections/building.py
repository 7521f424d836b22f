"""A file of views while a log is folded from its beginning: until the end of the log nobody reads it but the folds.

Rows that no fold reads come as they come, into tables without keys, and are sorted once, in the end: a row of ten
million at its place in a key is a page read, written and kept for going back. Of tables whose rows keep their former
versions (`versions`) those that stand are apart from those that stood: what folds look up lies on a few pages then.

All of that is in a second database beside the file, which is deleted when the tables are in order.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Final
from urllib.parse import quote

from dnms.projections.projection import Projection

UNTIL: Final = "until_sequence"
"""The last column of the key of a table whose rows keep their former versions, and of no other's."""

_VERSIONS: Final = "_row"
_PAST: Final = "_past"

CACHE_KIB = 49_152
"""Of what folds look up: all that stands, on a site of some ten thousand nodes."""

SORTED_KIB = 8_192
"""At once, in the end: as much as the cache of the file may hold then, beside what the rebuild has freed and the C
library keeps."""


class Building(sqlite3.Cursor):
    """A cursor of a file that is built: what stood goes to tables of its own, see `past`."""


class Aside:
    """The second database, attached."""

    def __init__(self, db: sqlite3.Connection, file: Path, projections: Sequence[Projection]) -> None:
        """Take the place of tables that are empty."""
        self._db = db
        self._file = beside(file)
        self._made: dict[str, str] = {}  # how each table is made that is not there meanwhile
        db.execute("ATTACH ? AS aside", (f"file:{quote(str(self._file))}",))
        for setting in (f"cache_size = -{CACHE_KIB}", "synchronous = OFF", "secure_delete = OFF"):
            db.execute(f"PRAGMA aside.{setting}")
        found = dict(db.execute("SELECT name, sql FROM main.sqlite_schema WHERE type = 'table'"))
        appended = {table for projection in projections for table in projection.appended}
        with db:  # all of it or nothing: a table that is in neither would be missing for good
            db.execute("BEGIN")
            for table, made in found.items():
                *key, last = _key(db, table) or [""]
                if table in appended:
                    self._take(table, made, {table: ""})
                elif last == UNTIL:
                    self._take(table, made, {table: f", PRIMARY KEY ({', '.join(key)})", past(table): ""})

    def settle(self) -> None:
        """Put all rows in order, where they belong."""
        self._db.execute("PRAGMA aside.cache_size = -2048")  # each page is read once now
        self._db.execute(f"PRAGMA main.cache_size = -{SORTED_KIB}")
        self._db.execute("PRAGMA shrink_memory")
        for table, made in self._made.items():
            self._db.execute(made)
            rows = f"aside.{table}"
            order = _key(self._db, table)
            if order[-1] == UNTIL:
                rows = f"(SELECT * FROM {rows} UNION ALL SELECT * FROM aside.{past(table)})"
            else:
                order.append("rowid")  # of two with one key the later one
            self._db.execute(f"INSERT OR REPLACE INTO main.{table} SELECT * FROM {rows} ORDER BY {', '.join(order)}")
        self._db.execute("DETACH aside")
        self._file.unlink()

    def _take(self, table: str, made: str, tables: dict[str, str]) -> None:
        columns = ", ".join(
            f"{name} {kind}" for name, kind in self._db.execute("SELECT name, type FROM pragma_table_info(?)", (table,))
        )
        for name, key in tables.items():
            self._db.execute(f"CREATE TABLE aside.{name} ({columns}{key}){' WITHOUT ROWID' if key else ''}")
        self._db.execute(f"DROP TABLE main.{table}")
        self._made[table] = made


def beside(file: Path) -> Path:
    """The second database of a file."""
    return file.with_name(f"{file.name}-aside")


def past(table: str) -> str:
    """Where the rows of a table with versions are that stood."""
    return table.removesuffix(_VERSIONS) + _PAST


def _key(db: sqlite3.Connection, table: str) -> list[str]:
    return [name for (name,) in db.execute("SELECT name FROM pragma_table_info(?) WHERE pk ORDER BY pk", (table,))]
