"""An archive: a directory of segment files, each with the messages of the log that follow those of the one before.

    manifest.json                          which segments there are, with their sizes and SHA-256, and of which log
    00000000000000000001-…0481.dnmslog.gz  a segment: first and last sequence; its form is that of `records`
    lock                                   held by whoever writes

A segment that is not full is written anew with what has come, under its new name, then the manifest, then the old one
is removed: each in one step (`dnms.disk.atomic`). So after a crash anywhere every segment that the manifest names is
there and whole, and perhaps one more, which is taken in or removed at the next opening. A segment says of itself what
it is, so a manifest that is lost or damaged is made from them.
"""

from __future__ import annotations

import fcntl
import hashlib
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec
import structlog

from dnms.archive.records import ArchiveError, Encoder, Header, LogFile
from dnms.bus.port import Record
from dnms.disk import atomic

FORM = 1
"""The version of the manifest."""

FULL = 8 << 20  # bytes of payloads; a segment with as many gets no more

OPENINGS = 3  # attempts to read a directory that changes; it does so every few seconds

MANIFEST = "manifest.json"
_NAME = re.compile(r"(\d{20})-(\d{20})\.dnmslog\.gz")

_logger = structlog.get_logger(__name__)


class Segment(msgspec.Struct, frozen=True):
    """One file."""

    first: int
    last: int
    payload: int  # bytes of its messages, without subjects
    size: int  # bytes of the file
    sha256: str  # of the file

    @property
    def name(self) -> str:
        """The file's."""
        return f"{self.first:020d}-{self.last:020d}.dnmslog.gz"


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """All files, in their order."""

    form: int = FORM
    site: str
    log_id: str
    segments: tuple[Segment, ...] = ()
    checksum: str = ""  # SHA-256 of this with an empty checksum


class Archive:
    """The archive in a directory, as it was when it was opened."""

    def __init__(self, directory: Path, manifest: Manifest) -> None:
        self.directory = directory
        self.site = manifest.site
        self.log_id = manifest.log_id
        self.segments: list[Segment] = list(manifest.segments)

    @classmethod
    def open(cls, directory: Path) -> Archive:
        """An archive to read; changes nothing. ArchiveError if there is none, or not all of it; OSError.

        Others may write to it meanwhile.
        """
        for attempt in range(1, OPENINGS + 1):
            archive = cls(directory, _manifest(directory) or _start(directory))
            try:
                archive._take_in()
            except FileNotFoundError:  # it has just been replaced
                if attempt == OPENINGS:
                    raise
            else:
                break
        return archive

    @property
    def end(self) -> int:
        """The sequence of the last message; 0 if there is none."""
        return self.segments[-1].last if self.segments else 0

    def messages(self, segment: Segment) -> list[Record]:
        """All messages of a segment, after they were checked. ArchiveError where it is not what was written."""
        path = self.directory / segment.name
        try:
            content = path.read_bytes()
        except FileNotFoundError as error:
            newer = self._newer(segment)
            if newer is None:
                raise ArchiveError(f"{path} is missing") from error
            return self.messages(newer)[: segment.last - segment.first + 1]
        if hashlib.sha256(content).hexdigest() != segment.sha256:
            raise ArchiveError(f"{path} is damaged: its checksum is not that of the manifest")
        return _checked(path, self.site, self.log_id, segment.first, segment.last)

    def all(self) -> Iterator[Record]:
        """Every message from the first on. ArchiveError at a segment that is damaged."""
        for segment in self.segments:
            yield from self.messages(segment)

    def _newer(self, segment: Segment) -> Segment | None:
        """The one that has replaced a segment since this was opened, by who writes meanwhile."""
        manifest = _manifest(self.directory)
        found = manifest.segments if manifest is not None else ()
        return next((one for one in found if one.first == segment.first and one.last > segment.last), None)

    def _take_in(self) -> list[Path]:
        """Take in the segments that a crash left out of the manifest; the files that others have replaced."""
        replaced = []
        known = {segment.name for segment in self.segments}
        for path in sorted(self.directory.iterdir()):
            match = _NAME.fullmatch(path.name)
            if match is None or path.name in known:
                continue
            first, last = map(int, match.groups())
            tail = self.segments[-1] if self.segments else None
            if any(first == one.first and last <= one.last for one in self.segments):
                replaced.append(path)
            elif first == self.end + 1 or (tail is not None and first == tail.first):
                records = _checked(path, self.site, self.log_id, first, last)
                if tail is not None and first == tail.first:
                    replaced.append(self.directory / self.segments.pop().name)
                self.segments.append(_segment(path.read_bytes(), records))
            else:
                raise ArchiveError(f"{path} does not follow the segments that end at {self.end}: one is missing")
        return replaced


class Writer:
    """The archive in a directory, to be continued; see `writing`."""

    def __init__(self, archive: Archive) -> None:
        self.archive = archive
        self._tail: list[Record] = []  # of the segment that is not full
        self._payload = 0  # bytes in it
        self._unwritten = 0  # messages in it
        newest = archive.segments[-1] if archive.segments else None
        self.newest: Record | None = None
        """The last message that is archived."""
        if newest is not None:
            records = archive.messages(newest)
            self.newest = records[-1]
            if newest.payload < FULL:
                self._tail, self._payload = records, newest.payload

    def add(self, records: Sequence[Record]) -> None:
        """The next messages. They are in a file when their segment is full, or after `flush`. OSError."""
        for record in records:
            self._tail.append(record)
            self._payload += len(record.data)
            self._unwritten += 1
            if self._payload >= FULL:
                self.flush()
                self._tail, self._payload = [], 0

    def flush(self) -> bool:
        """Write what is in no file yet; whether there was anything. OSError, and then the archive is as it was."""
        if not self._unwritten:
            return False
        archive = self.archive
        encoder = Encoder(Header(archive.site, archive.log_id, self._tail[0].sequence))
        parts = [encoder.begin(), *map(encoder.message, self._tail), encoder.end()]
        segment = _segment(b"".join(parts), self._tail)
        atomic.write(archive.directory / segment.name, parts, mode=0o600)
        before = archive.segments[-1] if archive.segments else None
        replaced = before is not None and before.first == segment.first
        segments = [*(archive.segments[:-1] if replaced else archive.segments), segment]
        write_manifest(archive.directory, Manifest(site=archive.site, log_id=archive.log_id, segments=tuple(segments)))
        archive.segments = segments
        self.newest, self._unwritten = self._tail[-1], 0
        if replaced and before is not None:
            (archive.directory / before.name).unlink(missing_ok=True)
        return True


@contextmanager
def writing(directory: Path, *, site: str, log_id: str) -> Iterator[Writer]:
    """Continue an archive, or begin one in a directory that is empty or not there, as the only one who writes.

    ArchiveError if it is of another log, is damaged where it has to be continued, or is written already; OSError.
    """
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (directory / "lock").open("ab") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ArchiveError(f"another process writes to the archive in {directory}") from error
        for scratch in (*directory.glob(".*.dnmslog.gz.*"), *directory.glob(f".{MANIFEST}.*")):
            scratch.unlink(missing_ok=True)  # of one that was killed; the lock is ours
        try:
            manifest = _manifest(directory) or _start(directory)
        except _Empty:
            manifest = Manifest(site=site, log_id=log_id)
        if (manifest.site, manifest.log_id) != (site, log_id):
            raise ArchiveError(
                f"{directory} is the archive of another log (site {manifest.site}, log {manifest.log_id}), and this "
                f"is site {site}, log {log_id}: name another directory"
            )
        archive = Archive(directory, manifest)
        replaced = archive._take_in()
        writer = Writer(archive)
        write_manifest(directory, Manifest(site=site, log_id=log_id, segments=tuple(archive.segments)))
        for path in replaced:
            path.unlink(missing_ok=True)
        yield writer


def write_manifest(directory: Path, manifest: Manifest) -> None:
    """Write it, with its checksum. OSError."""
    sealed = msgspec.structs.replace(manifest, checksum=_checksum(manifest))
    content = msgspec.json.format(msgspec.json.encode(sealed), indent=1)
    atomic.write(directory / MANIFEST, content + b"\n", mode=0o600)


class _Empty(ArchiveError):
    pass


def _manifest(directory: Path) -> Manifest | None:
    """The manifest; None if it is missing or damaged. ArchiveError if a newer release wrote it."""
    try:
        manifest = msgspec.json.decode((directory / MANIFEST).read_bytes(), type=Manifest)
    except FileNotFoundError:
        return None
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        _logger.warning("the archive's manifest is damaged; its segments are read instead", why=str(error))
        return None
    if manifest.checksum != _checksum(manifest):
        _logger.warning("the archive's manifest is damaged; its segments are read instead", why="wrong checksum")
        return None
    if manifest.form > FORM:
        raise ArchiveError(f"{directory} was written by a newer release (form {manifest.form}): upgrade dnms")
    return manifest


def _start(directory: Path) -> Manifest:
    """A manifest without segments, of the log that the first of them names."""
    if not directory.is_dir():
        raise _Empty(f"{directory} is no archive: there is no such directory")
    first = min((path for path in directory.iterdir() if _NAME.fullmatch(path.name)), default=None)
    if first is None:
        if any(path.name != "lock" for path in directory.iterdir()):
            raise ArchiveError(f"{directory} is no archive, and not empty")
        raise _Empty(f"{directory} is no archive: it is empty")
    header = LogFile(first).header
    return Manifest(site=header.site, log_id=header.log_id)


def _checksum(manifest: Manifest) -> str:
    return hashlib.sha256(msgspec.json.encode(msgspec.structs.replace(manifest, checksum=""))).hexdigest()


def _checked(path: Path, site: str, log_id: str, first: int, last: int) -> list[Record]:
    file = LogFile(path)
    records = list(file.messages())
    if file.header != Header(site, log_id, first) or not records or records[-1].sequence != last:
        raise ArchiveError(f"{path} is not what its name or the manifest says")
    return records


def _segment(content: bytes, records: Sequence[Record]) -> Segment:
    return Segment(
        records[0].sequence,
        records[-1].sequence,
        sum(len(record.data) for record in records),
        len(content),
        hashlib.sha256(content).hexdigest(),
    )
