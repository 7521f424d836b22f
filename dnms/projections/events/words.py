"""The words of events, so that a text is found in any of them: each word once, and where it stands.

FTS5 would take an address for eight words and a hardware address for six, would find `east` and not `-eas`, and would
keep what somebody was called in a form that cannot be deleted; it takes three times the room, and thirteen times with
parts of words (65 and 292 bytes an event, against 23). The words of a log are few, as the same names come again and
again: all of them are looked through, and then only the events that have one.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable
from functools import cache
from itertools import islice
from typing import Any, get_type_hints

import msgspec

from dnms.events.ip import Prefix
from dnms.events.recorded import Event
from dnms.projections.text import fields_of, format_addresses, plain
from dnms.projections.writing import insert

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

    def take(self, event: Event, request: str | None, position: int) -> None:
        """Take in one event, and the name of what was asked for."""
        of_event: dict[str, None] = {}
        if request is not None:
            of_event[request] = None
        _collector(type(event))(event, of_event)
        found = self._found
        for word in islice(of_event, MAX_WORDS):
            if (positions := found.get(word)) is None:
                found[word] = [position]
            else:
                positions.append(position)

    def write(self) -> dict[str, int]:
        """Write them down; the number of each."""
        numbers = self._known()
        [(last,)] = self._cursor.execute("SELECT coalesce(max(id), 0) FROM event_word").fetchall()
        fresh = [word for word in self._found if word not in numbers]
        numbers |= {word: number for number, word in enumerate(fresh, start=last + 1)}
        self._cursor.executemany("INSERT INTO event_word VALUES (?, ?)", [(numbers[word], word) for word in fresh])
        insert(
            self._cursor,
            "INSERT OR IGNORE INTO event_text",
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


_Collector = Callable[[Any, dict[str, None]], None]

_NO_TEXT = frozenset({int, bool, float, int | None})
"""Of what is declared as one of these no value is a text."""


# Every event comes through here when the views are folded, so nothing is asked twice of a type.
@cache
def _collector(kind: Any) -> _Collector:
    """Takes in the words of a value of this type, as `text.plain` shows it."""
    if issubclass(kind, msgspec.Struct) and kind is not Prefix:
        return _of_struct(kind)
    if issubclass(kind, tuple | list):
        return _of_several
    if issubclass(kind, dict):
        return lambda value, found: _of_several([one for key, one in value.items() if key not in NOT_WORDS], found)
    return _of_one


def _of_struct(kind: type[msgspec.Struct]) -> _Collector:
    hints = get_type_hints(kind)
    fields = [
        (name, default, is_address)
        for name, default, is_address in fields_of(kind)
        if name not in NOT_WORDS and hints[name] not in _NO_TEXT
    ]

    def struct(value: Any, found: dict[str, None]) -> None:
        for name, default, is_address in fields:
            held = getattr(value, name)
            if held is default or held == default:
                continue
            if is_address:
                held = format_addresses(held)
            held_kind: Any = type(held)
            if held_kind is str:
                found[held[:MAX_WORD].lower()] = None
            else:
                _collector(held_kind)(held, found)

    return struct


def _of_several(values: Iterable[Any], found: dict[str, None]) -> None:
    for one in values:
        kind: Any = type(one)
        _collector(kind)(one, found)


def _of_one(value: Any, found: dict[str, None]) -> None:
    if isinstance(text := plain(value), str) and text:
        found[text[:MAX_WORD].lower()] = None
