"""A whole log to a file, and from a file or an archive to another bus."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing
from pathlib import Path
from typing import cast

import msgspec

from dnms.archive import slices
from dnms.archive.records import ArchiveError, Encoder, Header, LogFile
from dnms.archive.segments import Archive
from dnms.bus.importing import import_log
from dnms.bus.port import Batch, Log, LogDamaged, Record
from dnms.disk import atomic
from dnms.events import subjects


class Copied(msgspec.Struct, frozen=True):
    """What was copied."""

    site: str
    log_id: str
    messages: int  # which is the sequence of the last one too


class Source(msgspec.Struct, frozen=True):
    """A whole log to be copied, read anew at each call of `messages`."""

    site: str
    log_id: str
    last: int
    messages: Callable[[], Iterator[Record]]


async def export(log: Log, path: Path, *, site: str) -> Copied:
    """Write all messages of the log, up to its end now, to a new file.

    The file is there when it is whole, and not before. ArchiveError if there is one; LogError, OSError.
    """
    check_new(path)
    end = await log.end()
    encoder = Encoder(Header(site, log.log_id))
    with atomic.replacing(path, mode=0o600) as file:
        file.write(encoder.begin())
        if end:
            follow = log.follow([subjects.everything(site)])
            async with aclosing(cast("AsyncGenerator[Batch, None]", follow)):
                async for batch in follow:
                    for record in batch.records:
                        if record.sequence > end:
                            break
                        if record.sequence != encoder.last + 1:
                            raise LogDamaged(
                                f"{record.subject}: the message at {record.sequence} comes after {encoder.last}: "
                                "messages are missing; nothing was written"
                            )
                        file.write(encoder.message(record))
                    if encoder.last == end:
                        break
        file.write(encoder.end())
    return Copied(site, log.log_id, end)


def source(path: Path) -> Source:
    """What `export` wrote, or an archive, after all of it was read and found whole. ArchiveError, OSError."""
    if path.is_dir():
        archive = Archive.open(path)
        return _whole(Source(archive.site, archive.log_id, archive.end, archive.all))
    if slices.is_slice(path):
        raise ArchiveError(f"{path} is a slice, and not a whole log; `dnms replay {path}` steps through it")
    file = LogFile(path)
    if file.header.first != 1:
        raise ArchiveError(f"{path} begins at {file.header.first}: it is one segment, and not a whole log")
    return _whole(Source(file.header.site, file.header.log_id, -1, file.messages))


async def import_source(found: Source, url: str, *, token: str | None) -> Copied:
    """Copy a log to a bus that does not have it; see `import_log`, whose errors come, and ArchiveError, OSError."""
    await import_log(url, found.site, token=token, log_id=found.log_id, last=found.last, records=found.messages)
    return Copied(found.site, found.log_id, found.last)


def check_new(path: Path) -> None:
    """ArchiveError if a new file cannot be made there."""
    if not path.parent.is_dir():
        raise ArchiveError(f"there is no directory {path.parent}")
    if path.exists():
        raise ArchiveError(f"{path} is there already; name another file")


def _whole(found: Source) -> Source:
    last = 0
    for record in found.messages():
        last = record.sequence
    return msgspec.structs.replace(found, last=last)
