"""The words of events, so that a text is found in any of them: each word once, and where it stands.

FTS5 would take an address for eight words and a hardware address for six, would find `east` and not `-eas`, and would
keep what somebody was called in a form that cannot be deleted; it takes three times the room, and thirteen times with
parts of words (65 and 292 bytes an event, against 23). The words of a log are few, as the same names come again and
again: all of them are looked through, and then only the events that have one.
"""

from __future__ import annotations

import sqlite3
from itertools import islice
from typing import Any

SCHEMA = """
CREATE TABLE event_word (
    id INTEGER PRIMARY KEY,       -- in the order of their first appearance in the log
    text TEXT NOT NULL UNIQUE     -- in lower case
);
CREATE TABLE event_text (         -- in which events each word stands
    word INTEGER NOT NULL,
    position INTEGER NOT NULL,
    PRIMARY KEY (word, position)
) WITHOUT ROWID;
"""

NOT_WORDS = frozenset({"client", "address", "addresses", "routes", "sysctls", "digest"})
"""Fields that are found otherwise, by node and by address, or in which every machine has the same."""

MAX_WORD = 255  # characters that are kept of one; a node may tell any name
MAX_WORDS = 256  # kept of one event
AT_ONCE = 500  # values in one statement


class Words:
    """The words of a batch."""

    def __init__(self, cursor: sqlite3.Cursor) -> None:
        self._cursor = cursor
        self._found: dict[str, list[int]] = {}  # in the order of their first appearance: the positions of each

    def take(self, fields: dict[str, Any], request: str | None, position: int) -> None:
        """Take in one event: its fields as `text.plain` has them, and the name of what was asked for."""
        of_event: dict[str, None] = {}
        if request is not None:
            of_event[request] = None
        _collect(fields, of_event)
        for word in islice(of_event, MAX_WORDS):
            self._found.setdefault(word, []).append(position)

    def write(self) -> dict[str, int]:
        """Write them down; the number of each."""
        numbers = self._known()
        [(last,)] = self._cursor.execute("SELECT coalesce(max(id), 0) FROM event_word").fetchall()
        fresh = [word for word in self._found if word not in numbers]
        numbers |= {word: number for number, word in enumerate(fresh, start=last + 1)}
        self._cursor.executemany("INSERT INTO event_word VALUES (?, ?)", [(numbers[word], word) for word in fresh])
        self._cursor.executemany(
            "INSERT OR IGNORE INTO event_text VALUES (?, ?)",
            [(numbers[word], position) for word, positions in self._found.items() for position in positions],
        )
        return numbers

    def _known(self) -> dict[str, int]:
        known: dict[str, int] = {}
        words = list(self._found)
        for first in range(0, len(words), AT_ONCE):
            part = words[first : first + AT_ONCE]
            marks = ", ".join("?" * len(part))
            known |= dict(self._cursor.execute(f"SELECT text, id FROM event_word WHERE text IN ({marks})", part))
        return known


def _collect(fields: dict[str, Any], found: dict[str, None]) -> None:
    for name, value in fields.items():
        if name not in NOT_WORDS:
            _collect_one(value, found)


def _collect_one(value: Any, found: dict[str, None]) -> None:
    kind = type(value)  # `plain` makes these and no others
    if kind is str:
        if value:
            found[value[:MAX_WORD].lower()] = None
    elif kind is dict:
        _collect(value, found)
    elif kind is list:
        for one in value:
            _collect_one(one, found)
