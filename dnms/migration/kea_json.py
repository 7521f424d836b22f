"""JSON as Kea reads it, with the line of everything: comments of three kinds (`#`, `//`, `/* */`), commas at the end of
a list, and `<?include "FILE"?>` in the place of any text (Kea's Administrator Reference Manual, "JSON Configuration").
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import msgspec

from dnms.migration.model import MigrationError, Place, Read

MAX_DEPTH = 64
MAX_INCLUDES = 16  # one in the other; more is a circle

_TOKEN = re.compile(
    r"""(?P<space>\s+|\#[^\n]*|//[^\n]*|/\*.*?\*/)
    |<\?include\s+"(?P<include>[^"\n]+)"\s*\?>
    |(?P<string>"(?:[^"\\\n]|\\.)*")
    |(?P<number>-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)
    |(?P<word>true|false|null)
    |(?P<mark>[][{}:,])""",
    re.VERBOSE | re.DOTALL,
)


class Value(msgspec.Struct, frozen=True):
    """A value, and where it stands: of a key, where the key does."""

    value: Any  # a dict of Values, a list of Values, or a text, number, bool or None
    place: Place

    def plain(self) -> Any:
        """The same without places."""
        if isinstance(self.value, dict):
            return {key: each.plain() for key, each in self.value.items()}
        return [each.plain() for each in self.value] if isinstance(self.value, list) else self.value


def parse(file: str, text: str, read: Read) -> Value:
    """The value in a text; `read` reads what it includes. MigrationError."""
    reader = _Reader(_tokens(file, text, read, 0))
    found = reader.value(0)
    kind, token, place = reader.take()
    if kind:
        raise MigrationError(f"{place}: expected the end of the file, not {token!r}")
    return found


_Token = tuple[str, str, Place]


def _tokens(file: str, text: str, read: Read, depth: int) -> Iterator[_Token]:
    at, line = 0, 1
    while at < len(text):
        place, found = Place(file, line), _TOKEN.match(text, at)
        if found is None or found.lastgroup is None:
            raise MigrationError(f"{place}: expected JSON, not {text[at : at + 20].splitlines()[0]!r}")
        if found.lastgroup == "include":
            yield from _included(found["include"], place, read, depth)
        elif found.lastgroup != "space":
            yield found.lastgroup, found[0], place
        line += found[0].count("\n")
        at = found.end()
    if not depth:
        yield "", "the end of the file", Place(file, line)


def _included(file: str, place: Place, read: Read, depth: int) -> Iterator[_Token]:
    if depth >= MAX_INCLUDES:
        raise MigrationError(f"{place}: {MAX_INCLUDES} files include each other")
    try:
        text = read(file)
    except (OSError, UnicodeDecodeError) as error:
        raise MigrationError(f"{place}: cannot read {file}: {error}") from error
    yield from _tokens(file, text, read, depth + 1)


class _Reader:
    def __init__(self, tokens: Iterator[_Token]) -> None:
        self._tokens = tokens
        self._next = next(tokens)

    def take(self) -> _Token:
        taken = self._next
        self._next = next(self._tokens, ("", "the end of the file", taken[2]))
        return taken

    def value(self, depth: int) -> Value:
        kind, token, place = self.take()
        if depth > MAX_DEPTH:
            raise MigrationError(f"{place}: nested too deeply")
        if token == "{" and kind == "mark":
            return Value(self._object(depth), place)
        if token == "[" and kind == "mark":
            return Value(self._list(depth), place)
        if kind in ("string", "number", "word"):
            return Value(self._scalar(token, place), place)
        raise MigrationError(f"{place}: expected a value, not {token!r}")

    def _scalar(self, token: str, place: Place) -> Any:
        try:
            return json.loads(token)
        except ValueError as error:
            raise MigrationError(f"{place}: {error}") from error

    def _object(self, depth: int) -> dict[str, Value]:
        found: dict[str, Value] = {}
        while not self._ends("}"):
            kind, token, place = self.take()
            if kind != "string":
                raise MigrationError(f"{place}: expected a key in double quotes, not {token!r}")
            key = self._scalar(token, place)
            if key in found:
                raise MigrationError(f"{place}: {key!r} is here twice")
            self._expect(":")
            found[key] = Value(self.value(depth + 1).value, place)
            self._separated("}")
        return found

    def _list(self, depth: int) -> list[Value]:
        found = []
        while not self._ends("]"):
            found.append(self.value(depth + 1))
            self._separated("]")
        return found

    def _ends(self, mark: str) -> bool:
        if self._next[:2] == ("mark", mark):
            self.take()
            return True
        return False

    def _separated(self, mark: str) -> None:
        if self._next[:2] != ("mark", mark):
            self._expect(",")

    def _expect(self, mark: str) -> None:
        kind, token, place = self.take()
        if (kind, token) != ("mark", mark):
            raise MigrationError(f"{place}: expected {mark!r}, not {token!r}")
