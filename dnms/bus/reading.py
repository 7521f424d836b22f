"""The log as commits: decoded, and checked on the way, since a log loses messages in silence when a disk is broken.

What is checked: stream sequences only rise, and have no gap where every subject is read; each commit names the one
before it on its subject; a position that is resumed still lies in this log. Whatever is wrong stops the reader.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import cast

import msgspec
import structlog

from dnms.bus.patterns import covers_site
from dnms.bus.port import Batch, Log, LogDamaged, LogForked, Record
from dnms.events import codec
from dnms.events.commit import Stored
from dnms.events.subjects import nodes
from dnms.kit.clock import MICROSECONDS

MAX_DEVIATION = 2 * MICROSECONDS
"""Between a commit's time and the log's clock; more means that a clock is wrong, or that the commit waited long."""

_logger = structlog.get_logger(__name__)


class Position(msgspec.Struct, frozen=True):
    """How far a reader has come. It is stored with what was made of the commits, and checked when it is resumed."""

    log_id: str
    sequence: int = 0  # of the last commit that was read; 0: none
    commit: bytes = b""  # its id


class Commits(msgspec.Struct, frozen=True):
    """What came together; `caught_up` says that nothing more was stored when it was sent."""

    stored: tuple[Stored, ...]
    caught_up: bool


def decode(record: Record) -> Stored:
    """The commit in a message; LogDamaged if it is none, UnknownToThisRelease if a newer release wrote it."""
    try:
        commit = codec.decode(record.data)
    except codec.UnknownToThisRelease as error:
        raise codec.UnknownToThisRelease(f"{record.subject}: the commit at {record.sequence}: {error}") from error
    except codec.BrokenCommit as error:
        raise LogDamaged(f"{record.subject}: the message at {record.sequence} is broken: {error}") from error
    return Stored(
        subject=record.subject,
        sequence=record.sequence,
        stored_at=record.stored_at,
        commit=commit,
        size=len(record.data),
    )


class Checked:
    """Turns the messages of one follow into commits, in their order, or says what is missing: LogDamaged."""

    def __init__(self, subjects: Sequence[str], *, after: int = 0) -> None:
        self._whole = covers_site(subjects)
        self._began = after
        self._last = after
        self._heads: dict[str, int] = {}  # of each subject: its newest commit

    def take(self, record: Record) -> Stored:
        """The next message."""
        where = f"{record.subject}: the message at {record.sequence}"
        if record.sequence <= self._last:
            raise LogDamaged(f"{where} comes after {self._last}: out of order")
        if self._whole and record.sequence != self._last + 1:
            raise LogDamaged(f"{where} comes after {self._last}: messages are missing")
        stored = decode(record)
        named = stored.commit.predecessor
        head = self._heads.get(record.subject)
        if named != head and (head is not None or named > self._began):
            raise LogDamaged(f"{where} follows {named}, but the one before it is {head or 0}: commits are missing")
        self._heads[record.subject] = self._last = record.sequence
        return stored


async def read(log: Log, subjects: Sequence[str], *, after: Position | int = 0) -> AsyncGenerator[Commits, None]:
    """All commits on `subjects` after a position, then those to come; the first batch comes at once.

    A position is that of a commit on `subjects`, and is checked; a mere sequence is not, and is for folds that live as
    long as their log. LogForked if the position does not lie in this log; LogDamaged at a gap and at what is no commit;
    UnknownToThisRelease. Close it with `contextlib.aclosing`.
    """
    resumed: Position | None = None
    if isinstance(after, Position):
        if after.log_id != log.log_id:
            raise LogForked(f"this is the log {log.log_id}, and {after.log_id} was read up to {after.sequence} before")
        resumed = after if after.sequence else None
        after = after.sequence
    checked = Checked(subjects, after=after)
    # The commit of the position is read again, to see that it is the same one.
    follow = log.follow(subjects, after=after - 1 if resumed else after)
    async with aclosing(cast("AsyncGenerator[Batch, None]", follow)):
        async for batch in follow:
            records = batch.records
            if resumed is not None:
                _check_position(resumed, records[0] if records else None)
                records, resumed = records[1:], None
            yield Commits(tuple(map(checked.take, records)), batch.caught_up)


async def read_opened(log: Log, subjects: Sequence[str], *, after: Position | int = 0) -> AsyncGenerator[Commits, None]:
    """As `read`, with what is personal in clear, but for what is forgotten: for who shows it to people.

    Decisions are taken, and compared, by what is in the log. Waits while the store of keys cannot be reached.
    """
    async with aclosing(read(log, subjects, after=after)) as batches:
        async for batch in batches:
            yield Commits(await log.keys.open_all(batch.stored), batch.caught_up)


async def learn_forgotten(log: Log, site: str) -> int:
    """Have `read_opened` show of nodes that are forgotten nothing of what was before; up to which sequence it does."""
    end = await log.end()
    async with aclosing(read(log, [nodes(site)])) as batches:
        async for batch in batches:
            for stored in batch.stored:
                log.keys.take(stored)
            if batch.caught_up:
                break
    return end


def _check_position(position: Position, record: Record | None) -> None:
    what = f"the commit {position.commit.hex()} was read at {position.sequence} before"
    if record is None:
        raise LogForked(f"{what}, and the log is shorter now")
    if record.sequence != position.sequence:
        raise LogForked(f"{what}, and {record.subject} has {record.sequence} there now")
    found = decode(record).commit.id
    if found != position.commit:
        raise LogForked(f"{what}, and {found.hex()} is there now")


def deviation_alarm(stored: Stored) -> bool:
    """Warn if a commit's time and the log's clock are further apart than they can be; whether they are.

    For commits as they come, not for a replay: it is no news then.
    """
    deviation = stored.commit.time - stored.stored_at
    if abs(deviation) <= MAX_DEVIATION:
        return False
    _logger.warning(
        "a commit's time deviates from the log's clock",
        subject=stored.subject,
        sequence=stored.sequence,
        actor=stored.commit.actor,
        seconds=round(deviation / MICROSECONDS, 3),
    )
    return True
