"""The language of ISC dhcpd, in which its configuration and its leases are written: statements, some with a block
(`dhcpd.conf(5)`, `dhcpd.leases(5)`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import msgspec

from dnms.migration.model import MigrationError, Place, Read

MAX_DEPTH = 64
MAX_INCLUDES = 16

_TOKEN = re.compile(
    r'(?P<space>\s+|\#[^\n]*)|(?P<text>"(?:[^"\\]|\\.)*")|(?P<mark>[{};,])|(?P<word>[^\s{};,"#]+)', re.DOTALL
)
_ESCAPE = re.compile(rb"\\([0-7]{1,3}|x[0-9a-fA-F]{1,2}|.)", re.DOTALL)
_LETTERS = {b"t": b"\t", b"r": b"\r", b"n": b"\n", b"b": b"\b"}


class Word(msgspec.Struct, frozen=True):
    """A word, or a text, as it is meant."""

    text: str
    place: Place
    octets: bytes | None = None  # of a text in quotes


class Statement(msgspec.Struct, frozen=True):
    """Words up to a semicolon, or before a block. A comma is a word of its own."""

    words: list[Word]
    block: list[Statement] | None = None

    @property
    def place(self) -> Place:
        """Where it begins."""
        return self.words[0].place

    def text(self, at: int) -> str:
        """A word; empty if there is none."""
        return self.words[at].text if at < len(self.words) else ""

    def values(self, at: int) -> list[str]:
        """The words from there on, without commas."""
        return [word.text for word in self.words[at:] if word.text != "," or word.octets is not None]

    def begins(self, *words: str) -> bool:
        """Whether these are its first words."""
        return all(self.text(at) == word for at, word in enumerate(words))


def parse(file: str, text: str, read: Read) -> list[Statement]:
    """The statements in a text; `read` reads what it includes. MigrationError."""
    return list(_statements(_Tokens(file, text), 0, read, 0))


class _Tokens:
    def __init__(self, file: str, text: str) -> None:
        self._file, self._text = file, text
        self._at, self._line = 0, 1

    def take(self) -> tuple[str, Word]:
        while self._at < len(self._text):
            place, found = Place(self._file, self._line), _TOKEN.match(self._text, self._at)
            if found is None or found.lastgroup is None:
                raise MigrationError(f"{place}: a text has no end")
            self._at = found.end()
            self._line += found[0].count("\n")
            if found.lastgroup == "text":
                octets = unescaped(found[0][1:-1])
                return "text", Word(octets.decode(errors="replace"), place, octets)
            if found.lastgroup != "space":
                return found.lastgroup, Word(found[0], place)
        return "", Word("", Place(self._file, self._line))


def unescaped(text: str) -> bytes:
    """The bytes of a text, in which a backslash begins an octal number, a hexadecimal one, or a letter."""

    def one(found: re.Match[bytes]) -> bytes:
        said = found[1]
        if said[:1].isdigit():
            return bytes([int(said, 8) & 0xFF]) if all(48 <= each < 56 for each in said) else said
        return bytes([int(said[1:], 16)]) if said[:1] == b"x" and len(said) > 1 else _LETTERS.get(said, said)

    return _ESCAPE.sub(one, text.encode())


def _statements(tokens: _Tokens, depth: int, read: Read, included: int) -> Iterator[Statement]:
    words: list[Word] = []
    while True:
        kind, word = tokens.take()
        if kind == "mark" and word.text == "{":
            if depth >= MAX_DEPTH:
                raise MigrationError(f"{word.place}: nested too deeply")
            yield Statement(words or [word], list(_statements(tokens, depth + 1, read, included)))
            words = []
        elif kind == "mark" and word.text == ";":
            if words:
                yield from _whole(Statement(words), read, included)
            words = []
        elif not kind or (kind == "mark" and word.text == "}"):
            if words or (not kind) != (not depth):
                raise MigrationError(f"{word.place}: expected a semicolon, or the end of a block")
            return
        else:
            words.append(word)


def _whole(statement: Statement, read: Read, included: int) -> Iterator[Statement]:
    if not statement.begins("include") or len(statement.words) != 2:
        yield statement
        return
    if included >= MAX_INCLUDES:
        raise MigrationError(f"{statement.place}: {MAX_INCLUDES} files include each other")
    file = statement.text(1)
    try:
        text = read(file)
    except (OSError, UnicodeDecodeError) as error:
        raise MigrationError(f"{statement.place}: cannot read {file}: {error}") from error
    yield from _statements(_Tokens(file, text), 0, read, included + 1)
