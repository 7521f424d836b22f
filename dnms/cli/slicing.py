"""A slice of the log: written by `dnms log export --from`, stepped through by `dnms replay FILE`."""

from __future__ import annotations

import secrets
from collections import defaultdict
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from pathlib import Path

from dnms.archive import slices
from dnms.archive.copying import check_new
from dnms.archive.pseudonyms import KEY_BYTES, Pseudonyms
from dnms.archive.records import ArchiveError
from dnms.archive.slices import MESSAGE, STATE, Header, Writer, Written
from dnms.bus.port import Log, Record
from dnms.bus.reading import decode
from dnms.disk import atomic
from dnms.domain.folded import folded
from dnms.domain.replay import Replay
from dnms.events import codec
from dnms.events.commit import Commit, Stored
from dnms.events.recorded import Event
from dnms.projections.replay.reading import Selection, Step, commits, stepped
from dnms.projections.replay.states import States
from dnms.projections.replay.wanted import Bound, is_ahead, is_behind

EVENTS_A_COMMIT = 1_000
"""Of the state; far under what a commit may have."""

NOBODY = bytes(32)
"""In place of the site's secret, which is not in a slice: nothing is decided on it."""


async def write(
    log: Log, path: Path, *, site: str, secret: bytes, first: Bound, last: Bound | None, pseudonymise: bool
) -> Written:
    """Write the messages from the first that is not ahead of `first`, up to the last before one that is behind `last`.

    The file is there when it is whole, and not before. ArchiveError; what is wrong with the log; OSError.
    """
    check_new(path)
    pseudonyms = Pseudonyms(secrets.token_bytes(KEY_BYTES)) if pseudonymise else None
    replay, heads, writer = Replay(site, secret), dict[str, tuple[int, int]](), None
    begins = ends = 0
    with atomic.replacing(path, mode=0o600) as file:
        async with aclosing(commits(log, site)) as whole:
            async for stored in whole:
                if writer is None and is_ahead(stored, len(stored.commit.events), first):
                    replay.take(stored)
                    heads[stored.subject] = stored.sequence, stored.commit.time
                    continue
                if last is not None and is_behind(stored, 0, last):
                    break
                if writer is None:
                    begins = stored.sequence
                    writer = Writer(file, Header(site, log.log_id, begins, pseudonymise))
                    for one in _state(replay, heads):
                        writer.add(STATE, _record(one, pseudonyms))
                writer.add(MESSAGE, _record(stored, pseudonyms))
                ends = stored.sequence
        if writer is None:
            raise ArchiveError("the log has no message there; nothing was written")
        writer.end()
    return Written(
        site=site,
        log_id=log.log_id,
        first=begins,
        last=ends,
        messages=ends - begins + 1,
        pseudonymised=pseudonymise,
    )


async def steps(path: Path, selection: Selection) -> AsyncGenerator[Step, None]:
    """The events of a slice that are selected; see `reading.steps`. ArchiveError, OSError."""
    states = States(slices.header(path).site, NOBODY)
    async with aclosing(stepped(states, _messages(path, states), selection)) as found:
        async for step in found:
            yield step


async def _messages(path: Path, states: States) -> AsyncGenerator[Stored, None]:
    """The commits of a slice, when the states have taken in what it begins with."""
    for kind, record in slices.records(path):
        stored = decode(record)
        if kind == MESSAGE:
            yield stored
            continue
        for event in stored.commit.events:
            states.evolve(stored, event)


def _state(replay: Replay, heads: dict[str, tuple[int, int]]) -> Iterator[Stored]:
    """The state as commits at the place of the last one that is in it."""
    found: defaultdict[str, list[Event]] = defaultdict(list)
    for subject, event in folded(replay):
        found[subject].append(event)
    for subject, events in found.items():
        sequence, time = heads[subject]
        for begin in range(0, len(events), EVENTS_A_COMMIT):
            some = tuple(events[begin : begin + EVENTS_A_COMMIT])
            commit = Commit(id=bytes(16), time=time, predecessor=0, actor="slice", events=some)
            yield Stored(subject=subject, sequence=sequence, stored_at=time, commit=commit, size=0)


def _record(stored: Stored, pseudonyms: Pseudonyms | None) -> Record:
    subject, commit = stored.subject, stored.commit
    if pseudonyms is not None:
        subject, commit = pseudonyms.subject(subject), pseudonyms.commit(commit)
    return Record(subject, stored.sequence, stored.stored_at, codec.encode(commit))
