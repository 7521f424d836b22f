"""Follows the log and archives it as it grows."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing, suppress
from pathlib import Path
from typing import cast

from dnms.archive.segments import Writer, writing
from dnms.bus.port import Batch, Log, LogDamaged, LogForked
from dnms.events import subjects

INTERVAL = 10.0
"""Seconds after which what has come is in a file. A segment that is not full is written anew then: at most 8 MiB."""


async def archive(
    log: Log, directory: Path, *, site: str, once: bool, stop: asyncio.Event, archived: Callable[[int], None]
) -> int:
    """Archive the log from where the archive ends: up to its end now with `once`, else until `stop` is set.

    Calls `archived` with the last sequence when the log's end is first reached, and returns the last one. What was read
    is in files when this ends, also by an error: ArchiveError, OSError, LogForked where the archive's last message is
    not in the log, LogDamaged at a gap. Messages are copied as they are, also those of a newer release.
    """
    with writing(directory, site=site, log_id=log.log_id) as writer:
        following = asyncio.create_task(_follow(log, writer, site=site, once=once, archived=archived))
        stopping = asyncio.create_task(stop.wait())
        try:
            while not following.done() and not stopping.done():
                await asyncio.wait((following, stopping), timeout=INTERVAL, return_when=asyncio.FIRST_COMPLETED)
                writer.flush()
        finally:
            stopping.cancel()
            following.cancel()
            with suppress(asyncio.CancelledError):
                await stopping
            await asyncio.wait({following})
            writer.flush()
        if not following.cancelled():
            following.result()
        return writer.archive.end


async def _follow(log: Log, writer: Writer, *, site: str, once: bool, archived: Callable[[int], None]) -> None:
    resumed = writer.newest
    last = resumed.sequence if resumed is not None else 0
    announced = False
    # The last message that is archived is read again, to see that it is the same one.
    follow = log.follow([subjects.everything(site)], after=max(last - 1, 0))
    async with aclosing(cast("AsyncGenerator[Batch, None]", follow)):
        async for batch in follow:
            records = batch.records
            if resumed is not None:
                if not records or records[0] != resumed:
                    raise LogForked(
                        f"{writer.archive.directory} ends with the message at {last}, and the log has another or none "
                        "there: see `dnms log check`"
                    )
                records, resumed = records[1:], None
            for record in records:
                if record.sequence != last + 1:
                    raise LogDamaged(
                        f"{record.subject}: the message at {record.sequence} comes after {last}: messages are missing"
                    )
                last = record.sequence
                writer.add((record,))
            if batch.caught_up and not announced:
                announced = True
                writer.flush()
                archived(last)
            if batch.caught_up and once:
                return
