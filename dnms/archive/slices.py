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
from contextlib import contextmanager
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


_header = msgspec.msgpack.Decoder(Header)


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
    with _damage_told(path):
        return _header.decode(next(_frames(path), b""))


def records(path: Path) -> Iterator[tuple[int, Record]]:
    """STATE or MESSAGE and what is there, in their order. ArchiveError at what is damaged, at the latest at the end."""
    with _damage_told(path):
        frames = _frames(path)
        last = _header.decode(next(frames, b"")).first - 1
        for kind, subject, sequence, at, data in map(_frame.decode, frames):
            record = Record(subject, sequence, at, data)
            if kind == MESSAGE:
                if record.sequence != last + 1:
                    raise ArchiveError(f"{path} is damaged: {record.sequence} follows {last}")
                last = record.sequence
            yield kind, record


@contextmanager
def _damage_told(path: Path) -> Iterator[None]:
    try:
        yield
    except (ValueError, EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ArchiveError(f"{path} is damaged, or no slice of a log: {error}") from error


def _frames(path: Path) -> Iterator[bytes]:
    """All frames, then their checksum is compared."""
    digest = hashlib.sha256(MAGIC)
    with path.open("rb") as opened, gzip.GzipFile(fileobj=opened, mode="rb") as file:

        def take(size: int) -> bytes:
            content = file.read(size)
            if len(content) < size:
                raise ValueError("it ends too early")
            return content

        if take(len(MAGIC)) != MAGIC:
            raise ArchiveError(f"{path} is no slice of a log of a form that this release knows")
        while length := _LENGTH.unpack(head := take(_LENGTH.size))[0]:
            if length > MAX_FRAME:
                raise ValueError(f"a message of {length} bytes")
            frame = take(length)
            digest.update(head + frame)
            yield frame
        if take(_DIGEST) != digest.digest() or file.read(1):
            raise ValueError("its checksum is not that of its messages")
