"""What a Subnet Agent has to record and nobody waits for: how a session ended, what became of an assignment, and which
sessions were opened while the log was away.

It is written as soon as the log takes it, however long the log is away, and before the next session of the same client.
The newest of each kind and client counts, so there is never more of it than the agent has sessions; of what somebody
else changed on a node, a few.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from itertools import islice

import msgspec
import structlog

from dnms.agents.subnet.folds import Seen
from dnms.bus.committer import Committer
from dnms.bus.port import Unanswered, Unavailable
from dnms.events.commit import MAX_EVENTS
from dnms.events.recorded import Event
from dnms.events.seen import (
    ConfigurationApplied,
    ConfigurationContested,
    ConfigurationDrifted,
    SessionClosed,
    SessionOpened,
)

RETRY = 1.0  # seconds after the log could not be written

MAX_DRIFTS = 16  # of one node that wait; the rest is counted in the last of them

Note = SessionOpened | SessionClosed | ConfigurationApplied | ConfigurationDrifted | ConfigurationContested

_logger = structlog.get_logger(__name__)


class Notes:
    """What is still to be recorded by `seen`."""

    def __init__(self, seen: Committer[Seen]) -> None:
        self._seen = seen
        self._open: dict[tuple[bytes, str], Note] = {}
        self._attempt: asyncio.Task[None] | None = None  # to record some of them: one at a time, so none comes twice
        self._more = asyncio.Event()
        self._none = asyncio.Event()
        self._none.set()

    def add(self, note: Note) -> None:
        """Record this as soon as possible."""
        key = (note.client, note.NAME)
        if isinstance(note, ConfigurationDrifted):
            note, key = self._drift(note)
        self._open.pop(key, None)  # it goes to the end: notes of a client keep their order
        self._open[key] = note
        self._more.set()
        self._none.clear()

    def _drift(self, note: ConfigurationDrifted) -> tuple[ConfigurationDrifted, tuple[bytes, str]]:
        """The note, with what it takes the place of counted in it, and its key."""
        keys = [(note.client, f"{note.NAME} {number}") for number in range(MAX_DRIFTS)]
        for key in keys:
            if key not in self._open:
                return note, key
        last = self._open[keys[-1]]
        if isinstance(last, ConfigurationDrifted):
            note = msgspec.structs.replace(note, more=note.more + last.more + len(last.items))
        return note, keys[-1]

    def drop(self, client: bytes) -> None:
        """Somebody has recorded the end of this client's session already."""
        self._open.pop((client, SessionClosed.NAME), None)

    async def settled(self) -> None:
        """Wait until all of it is in the log."""
        await self._none.wait()

    async def observe(self, events: Sequence[Event]) -> int:
        """Record events that somebody waits for; before them, what is noted of clients that open a session.

        Returns the sequence of their commit. LogError: then nothing is recorded of what was asked.
        """
        opening = {event.client for event in events if isinstance(event, SessionOpened)}
        while any(client in opening for client, _ in self._open):
            await self._record()
        return await self._seen.observe(events)

    async def run(self) -> None:
        """Record what is noted, until cancelled."""
        try:
            while True:
                await self._more.wait()
                while self._open:
                    try:
                        await self._record()
                    except (Unavailable, Unanswered) as error:
                        _logger.warning("not recorded yet", notes=len(self._open), why=error.why)
                        await asyncio.sleep(RETRY)
                self._more.clear()
                self._none.set()
        finally:
            if self._attempt is not None:
                self._attempt.cancel()

    async def _record(self) -> None:
        """Record the oldest notes, or wait for who does so already. LogError."""
        if self._attempt is None:
            self._attempt = asyncio.create_task(self._write(dict(islice(self._open.items(), MAX_EVENTS))))
            self._attempt.add_done_callback(self._ended)
        await asyncio.shield(self._attempt)

    async def _write(self, notes: dict[tuple[bytes, str], Note]) -> None:
        await self._seen.observe(tuple(notes.values()))
        for key, note in notes.items():
            if self._open.get(key) is note:
                del self._open[key]

    def _ended(self, attempt: asyncio.Task[None]) -> None:
        self._attempt = None
        if not attempt.cancelled():
            attempt.exception()  # whoever waited for it has it; who did not does not miss it
