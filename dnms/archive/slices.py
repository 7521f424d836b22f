"""A part of a log in a file: the state that it begins with, then its messages at their sequences.

gzip (RFC 1952) over:

    DNMS slice 1\\n         what this is, and the version of this form
    frames                 length (4 bytes), then msgpack: first the header, then [0, subject, sequence, time, commit]
                           of the state (as commits that nobody wrote, of events that lead to it) and after these
                           [1, subject, sequence, time, commit] of the messages, without a gap
    end                    0 (4), the SHA-256 of all before it (32)

Lengths are little-endian, times microseconds since 1970-01-01 UTC. A file without its end is not whole.
"""

from __future__ import annotations

import gzip
import hashlib
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import msgspec

from dnms.archive.records import LEVEL, MAX_FRAME, ArchiveError
from dnms.bus.port import Record

MAGIC = b"DNMS slice 1\n"
STATE, MESSAGE = 0, 1

_LENGTH = struct.Struct("<I")
_DIGEST = 32  # bytes
_frame = msgspec.msgpack.Decoder(tuple[int, str, int, int, bytes])


class Header(msgspec.Struct, frozen=True, array_like=True):
    """Whose messages they are, and whether they are as they were written."""

    site: str
    log_id: str
    first: int  # the sequence of the first message
    pseudonymised: bool


class Written(msgspec.Struct, frozen=True, kw_only=True):
    """What was written."""

    site: str
    log_id: str
    first: int
    last: int  # first - 1: no message
    messages: int
    pseudonymised: bool


class Writer:
    """Writes a slice, part by part."""

    def __init__(self, file: IO[bytes], header: Header) -> None:
        self._file = gzip.GzipFile(fileobj=file, mode="wb", compresslevel=LEVEL, filename="", mtime=0)
        self._digest = hashlib.sha256()
        self._take(MAGIC)
        self._frame(header)

    def add(self, kind: int, record: Record) -> None:
        """The next of the state, or the next message."""
        self._frame((kind, record.subject, record.sequence, record.stored_at, record.data))

    def end(self) -> None:
        """What comes last."""
        self._file.write(_LENGTH.pack(0) + self._digest.digest())
        self._file.close()

    def _frame(self, value: object) -> None:
        encoded = msgspec.msgpack.encode(value)
        self._take(_LENGTH.pack(len(encoded)) + encoded)

    def _take(self, content: bytes) -> None:
        self._digest.update(content)
        self._file.write(content)


def is_slice(path: Path) -> bool:
    """Whether a file is one, as far as its beginning says. OSError."""
    with path.open("rb") as file:
        try:
            return gzip.GzipFile(fileobj=file, mode="rb").read(len(MAGIC)) == MAGIC
        except (EOFError, zlib.error, gzip.BadGzipFile):
            return False


def header(path: Path) -> Header:
    """Whose it is. ArchiveError, OSError."""
    return next(_read(path))  # type: ignore[return-value]  # the header comes first


def records(path: Path) -> Iterator[tuple[int, Record]]:
    """STATE or MESSAGE and what is there, in their order. ArchiveError at what is damaged, at the latest at the end."""
    found = _read(path)
    last = next(found).first - 1  # type: ignore[union-attr]  # the same
    for each in found:
        assert isinstance(each, tuple)
        if each[0] == MESSAGE:
            if each[1].sequence != last + 1:
                raise ArchiveError(f"{path} is damaged: {each[1].sequence} follows {last}")
            last = each[1].sequence
        yield each


def _read(path: Path) -> Iterator[Header | tuple[int, Record]]:
    digest = hashlib.sha256()
    with path.open("rb") as opened, gzip.GzipFile(fileobj=opened, mode="rb") as file:

        def take(size: int) -> bytes:
            content = file.read(size)
            if len(content) < size:
                raise ValueError("it ends too early")
            return content

        try:
            if take(len(MAGIC)) != MAGIC:
                raise ArchiveError(f"{path} is no slice of a log of a form that this release knows")
            digest.update(MAGIC)
            seen = False
            while True:
                head = take(_LENGTH.size)
                [length] = _LENGTH.unpack(head)
                if not length:
                    break
                if length > MAX_FRAME:
                    raise ValueError(f"a message of {length} bytes")
                frame = take(length)
                digest.update(head + frame)
                if not seen:
                    seen = True
                    yield msgspec.msgpack.decode(frame, type=Header)
                else:
                    kind, subject, sequence, at, data = _frame.decode(frame)
                    yield kind, Record(subject, sequence, at, data)
            if take(_DIGEST) != digest.digest() or file.read(1):
                raise ValueError("its checksum is not that of its messages")
        except (ValueError, EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise ArchiveError(f"{path} is damaged, or no slice of a log: {error}") from error
