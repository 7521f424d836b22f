"""A damaged stream built anew from its archive and from what the stream still has.

Theory of operation. The damaged store is not touched: a nats-server cuts off what it finds unreadable, so it is only
started on a copy. What that and the archive have together must be every message there ever was; else nothing is
changed, but for an archive that the operator says is enough. From that a new store is filled beside (`importing`), read
back and compared, and then the two directories are exchanged in one step (renameat2(2)). The damaged one is kept under
another name.

    log.repair/copy      the copy that is read; removed
    log.repair/messages  what the two have together; removed
    log.repair/new       the new store, then the old one
    log.damaged-1        where the old one is kept in the end

A new store has the file `rebuilding` in it until the end. So what a repair that was killed left in `log.repair/new` is
known: with that file it is a new store, and removed by the next repair; without, it is the old one, and kept.
"""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
from collections.abc import Callable
from contextlib import aclosing
from pathlib import Path

import msgspec

from dnms.archive.comparing import Comparison, begin, both, spoken
from dnms.archive.copying import Source, import_source
from dnms.archive.records import Encoder, Header, LogFile
from dnms.archive.segments import Archive
from dnms.archive.stores import served_copy, unserved
from dnms.bus import jetstream
from dnms.bus.embedded import EmbeddedServer, EmbeddedServerError
from dnms.bus.port import LogError
from dnms.bus.survey import survey
from dnms.disk import atomic
from dnms.events import subjects

MARK = "rebuilding"

ALONE = "; --archive-alone builds it from the archive, and what that does not have is gone then"

RENAME_EXCHANGE = 2  # linux/fs.h
AT_FDCWD = -100


class NotRepairable(LogError):
    """Archive and stream together do not have every message. Nothing was changed."""

    why = "not-repairable"


class Repaired(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a repair."""

    changed: bool  # false: the stream was whole, and nothing was done
    messages: int  # of the log now
    restored: int  # that the stream did not have, or not as the archive has them; of an archive alone all
    kept: str  # where the damaged store is; empty if there was none or nothing was done


async def repair(
    directory: Path, archive: Archive, *, token: str, archive_alone: bool, say: Callable[[str], None]
) -> Repaired:
    """Repair the store in `directory`, a site's log that is not served meanwhile.

    With `archive_alone` the stream is not looked at, and what the archive does not have is gone. NotRepairable,
    LogForked, ArchiveError, EmbeddedServerError, OSError: the store is as it was then.
    """
    scratch = directory.with_name(f"{directory.name}.repair")
    if not archive_alone:
        _check_is_there(directory)
    with unserved(directory):
        _clear(directory, scratch)
        scratch.mkdir(mode=0o700)
        try:
            if archive_alone:
                source = Source(archive.site, archive.log_id, archive.end, archive.all)
                restored = archive.end
            else:
                source, comparison = await _together(directory, archive, scratch, token=token, say=say)
                for damaged in comparison.damaged:
                    say(damaged)
                if comparison.stream_is_whole:
                    return Repaired(changed=False, messages=source.last, restored=0, kept="")
                restored = sum(span.size for span in comparison.missing)
            say(f"building a new store of {source.last} messages beside the old one")
            _mark(scratch / "new")
            await _build(scratch / "new", source, token=token)
            _copy_keys(directory, scratch / "new", archive.site)
            kept = _exchange(directory, scratch / "new")
            if kept:
                _drop_keys(Path(kept), archive.site)
        finally:
            if not _is_old(scratch / "new"):
                shutil.rmtree(scratch, ignore_errors=True)
    return Repaired(changed=True, messages=source.last, restored=restored, kept=kept)


async def _together(
    directory: Path, archive: Archive, scratch: Path, *, token: str, say: Callable[[str], None]
) -> tuple[Source, Comparison]:
    """What stream and archive have together, in a file; NotRepairable where that is not every message."""
    say("looking through a copy of the stream")
    merged = scratch / "messages"
    encoder = Encoder(Header(archive.site, archive.log_id))
    try:
        async with (
            served_copy(directory, scratch / "copy", site=archive.site, token=token) as (url, on_disk),
            survey(url, archive.site, token=token) as found,
        ):
            comparison = begin(archive, found, on_disk=on_disk)
            with atomic.replacing(merged, mode=0o600) as file:
                file.write(encoder.begin())
                async with aclosing(both(archive, found, comparison)) as records:
                    async for record in records:
                        file.write(encoder.message(record))
                file.write(encoder.end())
    except (EmbeddedServerError, LogError) as error:
        raise NotRepairable(f"the stream cannot be read: {error}{ALONE}") from error
    if comparison.changed:
        raise NotRepairable(
            f"archive and stream are not the same at {spoken(comparison.changed)}; nothing was changed{ALONE}"
        )
    if comparison.lost:
        raise NotRepairable(
            f"neither the stream nor the archive has the messages at {spoken(comparison.lost)}; nothing was changed"
            f"{ALONE}"
        )
    return Source(archive.site, archive.log_id, encoder.last, LogFile(merged).messages), comparison


def _mark(new: Path) -> None:
    new.mkdir(mode=0o700)
    (new / MARK).touch()


async def _build(new: Path, source: Source, *, token: str) -> None:
    """Fill a new store, and see that it can be used."""
    async with EmbeddedServer(new, token=token) as server:
        await import_source(source, server.url, token=token)
        log = await jetstream.connect(server.url, source.site, token=token)
        await log.close()
    os.sync()  # the server has synced its messages, and nobody the directories


def _copy_keys(directory: Path, new: Path, site: str) -> None:
    """Have the keys of what is personal, which are no part of the log, in the new store as they are in the old one."""
    for keys in directory.glob(f"jetstream/*/streams/{subjects.key_stream(site)}"):
        copy = new / keys.relative_to(directory)
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(keys, copy)
    os.sync()


def _drop_keys(kept: Path, site: str) -> None:
    """Have them in the new one alone: a copy would outlast the forgetting of a person."""
    for keys in kept.glob(f"jetstream/*/streams/{subjects.key_stream(site)}"):
        shutil.rmtree(keys)


def _exchange(directory: Path, new: Path) -> str:
    """Put the new store in the place of the old one; where the old one is kept."""
    if not directory.exists():
        new.rename(directory)
        kept = ""
    else:
        _exchange_names(new, directory)
        kept = str(_keep(directory, new))
    (directory / MARK).unlink()
    atomic.sync_directory(directory.parent)
    return kept


def _exchange_names(one: Path, other: Path) -> None:
    """In one step, so that a crash leaves either. NotRepairable where the file system cannot do that; OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.renameat2(AT_FDCWD, os.fsencode(one), AT_FDCWD, os.fsencode(other), RENAME_EXCHANGE) != 0:
        number = ctypes.get_errno()
        if number in (errno.EINVAL, errno.ENOSYS):
            raise NotRepairable(
                f"the file system of {other} cannot exchange two directories in one step; nothing was changed: move "
                f"{other} away, and `dnms log import` the archive"
            )
        raise OSError(number, os.strerror(number), str(one), None, str(other))


def _clear(directory: Path, scratch: Path) -> None:
    """Remove what a repair that was killed has left, and keep the old store if it is among that."""
    if _is_old(scratch / "new"):
        _keep(directory, scratch / "new")
        (directory / MARK).unlink(missing_ok=True)
    if scratch.exists():
        shutil.rmtree(scratch)


def _is_old(new: Path) -> bool:
    return new.exists() and any(new.iterdir()) and not (new / MARK).exists()


def _check_is_there(directory: Path) -> None:
    if not directory.is_dir():
        raise NotRepairable(f"there is no log in {directory}{ALONE}")


def _keep(directory: Path, old: Path) -> Path:
    number = 1
    while (kept := directory.with_name(f"{directory.name}.damaged-{number}")).exists():
        number += 1
    old.rename(kept)
    return kept
