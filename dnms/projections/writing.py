"""Rows that are written by the thousand: for each one alone Python's way to SQLite and back takes longer than SQLite.

Python's `sqlite3` asks of every value but an int, float, str or bytearray how it is to be adapted, and searches several
places in vain: for bytes that takes as long as to write them. So it is told that they are as they are to be.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from itertools import chain, islice
from operator import itemgetter
from typing import Any

from dnms.projections.building import Building

AT_ONCE = 40
"""Rows in one statement: with more it is hardly faster, and with a dozen columns it stays far below SQLite's 32 766
values."""

sqlite3.register_adapter(bytes, bytes.__bytes__)
sqlite3.register_adapter(type(None), lambda none: none)


def insert(cursor: sqlite3.Cursor, into: str, rows: Sequence[tuple[Any, ...]], then: str = "") -> None:
    """Write rows, all of one width, in their order; `into` is all before VALUES, and `then` all behind them."""
    if not rows:
        return
    width = len(rows[0])
    one = f"({', '.join('?' * width)})"
    several = len(rows) - len(rows) % AT_ONCE
    if several:
        values = chain.from_iterable(islice(rows, several))
        together = zip(*[values] * (width * AT_ONCE), strict=True)
        cursor.executemany(f"{into} VALUES {', '.join([one] * AT_ONCE)} {then}", together)
    cursor.executemany(f"{into} VALUES {one} {then}", rows[several:])


def append(cursor: sqlite3.Cursor, table: str, rows: list[tuple[Any, ...]], key: int) -> None:
    """Write rows that no fold reads, with so many columns by which neighbours lie on one page.

    While a file is built they have no order: see `building`.
    """
    if not isinstance(cursor, Building):
        rows.sort(key=itemgetter(slice(key)))
    insert(cursor, f"INSERT OR REPLACE INTO {table}", rows)
