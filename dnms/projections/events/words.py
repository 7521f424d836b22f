"""The words of events, so that a text is found in any of them: each word once, and where it stands.

Full-text search would take an address for eight words and a hardware address for six, would find `east` and not `-eas`,
and would keep what somebody was called in a form that cannot be deleted. The words of a log are few, as the same names
come again and again: all of them are looked through, and then only the events that have one.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
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

    def take(self, words: Iterator[str], position: int) -> None:
        """Take in the words of one event."""
        of_event: dict[str, None] = {}
        for word in words:
            if len(of_event) < MAX_WORDS:
                of_event[word] = None
        for word in of_event:
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


def words_of(fields: Any) -> Iterator[str]:
    """The texts in an event's fields, as `text.plain` has them, in lower case."""
    if isinstance(fields, str):
        if fields:
            yield word_of(fields)
    elif isinstance(fields, dict):
        for name, value in fields.items():
            if name not in NOT_WORDS:
                yield from words_of(value)
    elif isinstance(fields, Sequence):
        for value in fields:
            yield from words_of(value)


def word_of(text: str) -> str:
    """A text as it is kept."""
    return text[:MAX_WORD].lower()
