"""Messages of a log in a file, with their sequences, times and bytes: what `dnms log export` writes, and a segment.

gzip (RFC 1952) over:

    DNMS log 1\\n           what this is, and the version of this form
    header                 length (4 bytes), then msgpack: site, log id, sequence of the first message
    messages               length of all that follows of it (4), sequence (8), time in microseconds since 1970-01-01 UTC
                           (8), length of the subject (2), the subject, the payload
    end                    0 (4), sequence of the last message (8; the first's minus 1 if there is none), the SHA-256 of
                           all before this end (32)

Integers are little-endian. A file without its end is not whole.
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

from dnms.bus.port import Record

MAGIC = b"DNMS log 1\n"
LEVEL = 6  # of zlib; 9 takes twice the time for 1 % less

MAX_FRAME = 9 << 20  # bytes; the bus takes messages of 8 MiB

_LENGTH = struct.Struct("<I")
_HEAD = struct.Struct("<QqH")
_END = struct.Struct("<Q32s")


class ArchiveError(Exception):
    """A file of log messages, or an archive of them, that cannot be used; one line that says what to do."""


class Header(msgspec.Struct, frozen=True, array_like=True):
    """Whose messages they are."""

    site: str
    log_id: str
    first: int = 1


class Encoder:
    """Makes the bytes of a file, part by part."""

    def __init__(self, header: Header) -> None:
        self._compressor = zlib.compressobj(LEVEL, wbits=31)
        self._digest = hashlib.sha256()
        self._header = header
        self.last = header.first - 1

    def begin(self) -> bytes:
        """What comes first."""
        encoded = msgspec.msgpack.encode(self._header)
        return self._take(MAGIC + _LENGTH.pack(len(encoded)) + encoded)

    def message(self, record: Record) -> bytes:
        """The next message; often there is nothing to write yet."""
        subject = record.subject.encode()
        body = _HEAD.pack(record.sequence, record.stored_at, len(subject)) + subject + record.data
        self.last = record.sequence
        return self._take(_LENGTH.pack(len(body)) + body)

    def end(self) -> bytes:
        """What comes last."""
        tail = _LENGTH.pack(0) + _END.pack(self.last, self._digest.digest())
        return self._compressor.compress(tail) + self._compressor.flush()

    def _take(self, content: bytes) -> bytes:
        self._digest.update(content)
        return self._compressor.compress(content)


class LogFile:
    """A file of messages of a log."""

    def __init__(self, path: Path) -> None:
        """Reads who it is of. ArchiveError, OSError."""
        self.path = path
        with path.open("rb") as file:
            self.header = _Reading(path, file).header

    def messages(self) -> Iterator[Record]:
        """Its messages, in their order, without a gap. ArchiveError at what is damaged, at the latest at the end."""
        with self.path.open("rb") as file:
            yield from _Reading(self.path, file).messages()


class _Reading:
    def __init__(self, path: Path, file: IO[bytes]) -> None:
        self._path = path
        self._file = gzip.GzipFile(fileobj=file, mode="rb")
        self._digest = hashlib.sha256()
        if self._read(len(MAGIC)) != MAGIC:
            raise ArchiveError(f"{path} is no file of log messages of a form that this release knows")
        try:
            self.header = msgspec.msgpack.decode(self._frame(), type=Header)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise self._damaged(str(error)) from error

    def messages(self) -> Iterator[Record]:
        last = self.header.first - 1
        while True:
            before = self._digest.digest()
            body = self._frame()
            if not body:
                break
            try:
                sequence, stored_at, length = _HEAD.unpack_from(body)
                place = _HEAD.size + length
                subject = body[_HEAD.size : place].decode()
            except (struct.error, UnicodeDecodeError) as error:
                raise self._damaged(str(error)) from error
            if sequence != last + 1:
                raise self._damaged(f"{sequence} follows {last}")
            last = sequence
            yield Record(subject, sequence, stored_at, body[place:])
        if _END.unpack(self._read(_END.size)) != (last, before):
            raise self._damaged(f"its checksum is not that of its messages up to {last}")
        if self._read(1, whole=False):  # and gzip compares its own checksum there
            raise self._damaged("something follows its end")

    def _frame(self) -> bytes:
        (length,) = _LENGTH.unpack(self._read(_LENGTH.size))
        if length > MAX_FRAME:
            raise self._damaged(f"a message of {length} bytes")
        return self._read(length)

    def _read(self, size: int, *, whole: bool = True) -> bytes:
        try:
            content = self._file.read(size)
        except (OSError, EOFError, zlib.error) as error:
            if isinstance(error, OSError) and error.errno is not None:  # gzip's own have none
                raise
            raise self._damaged(str(error)) from error
        if whole and len(content) < size:
            raise self._damaged("it ends too early")
        self._digest.update(content)
        return content

    def _damaged(self, why: str) -> ArchiveError:
        return ArchiveError(f"{self._path} is damaged, or no file of log messages: {why}")
