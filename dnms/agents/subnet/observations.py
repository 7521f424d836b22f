"""What of the configurations that nodes tell is worth an event: what changed, and of what never rests a summary.

Theory of operation. A node tells its whole configuration when a session begins, and again when it changes. The first
one is recorded whole, and after it what changed, as long as it is known what the log has: that is so while this process
has recorded it and no other agent has heard more since, which the node knows (it says which configuration an agent has
confirmed last). Now and then one is recorded whole again, so that whoever reads what a node had need not go far back.

Nobody can purge the log, so a node that changes more than MOST times in an hour is recorded again only when the hour is
over: how often it changed, and where it came to.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import msgspec
import structlog

from dnms.bus.port import LogError
from dnms.domain.configured import NO_DIFFERENCE, difference
from dnms.events.codec import decoder, encoder
from dnms.events.configuration import Difference, Snapshot
from dnms.events.recorded import Event
from dnms.events.seen import ConfigurationChanged, ConfigurationFlapped, ConfigurationRegistered

HOUR = 3_600.0  # seconds
MOST = 60  # changes of one node that are recorded in an hour
WHOLE_AFTER = 64  # changes; then it is recorded whole
LOOK = 60.0  # seconds between two looks for hours that are over
MAX_KNOWN = 8_192  # nodes; who is over that is recorded whole when it comes next

_snapshot = decoder(Snapshot)
_logger = structlog.get_logger(__name__)


class _Known(msgspec.Struct):
    """What is in the log of one node, as far as this process has written it."""

    recorded: bytes = b""  # the snapshot, encoded: a node's structs would take several times as much; empty: not known
    confirmed: bytes = b""  # digest of what the node was told that the agent has
    changes: int = 0  # since it was recorded whole
    hour: float = 0.0  # began then, by the event loop's clock
    in_hour: int = 0  # changes that were recorded in it
    held: bytes = b""  # the newest snapshot, where it is not recorded
    unrecorded: int = 0  # changes in this hour
    began: int = 0  # the first of these, by the log's clock


class Observations:
    """Of all nodes of one agent. `now` is the log's clock, in microseconds."""

    def __init__(self, record: Callable[..., Awaitable[int]], now: Callable[[], int]) -> None:
        """`record` has events written, and raises LogError."""
        self._record = record
        self._now = now
        self._known: dict[bytes, _Known] = {}  # by client; who was heard last is last

    def news(self, client: bytes, snapshot: Snapshot, *, digest: bytes, follows: bytes) -> tuple[Event, ...]:
        """What there is to record of what a node has now; nothing if the log has it, or is not to have more.

        `follows` is the digest of what an agent has confirmed to it last. Who fails to record it, calls `forget`.
        """
        known = self._known.pop(client, None) or _Known(hour=self._clock())
        self._keep(client, known)
        if known.hour + HOUR <= self._clock() and not known.unrecorded:
            known.hour, known.in_hour = self._clock(), 0
        goes_on = bool(known.recorded) and known.confirmed == follows
        known.confirmed = digest
        change = difference(_snapshot.decode(known.recorded), snapshot) if goes_on else None
        if change == NO_DIFFERENCE:
            known.held = b""
            return ()
        if known.in_hour >= MOST:
            known.began = known.began if known.unrecorded else self._now()
            known.unrecorded += 1
            known.held = _encoded(snapshot)
            if change is None:
                known.recorded = b""  # it is not known what the log has: a whole one is recorded when the hour is over
            return ()
        known.in_hour += 1
        return (self._recorded(client, known, snapshot, change, digest),)

    def _recorded(
        self, client: bytes, known: _Known, snapshot: Snapshot, change: Difference | None, digest: bytes
    ) -> Event:
        """The event for what a node has now, after which the log has it."""
        known.recorded, known.held = _encoded(snapshot), b""
        if change is None or known.changes >= WHOLE_AFTER:
            known.changes = 0
            return ConfigurationRegistered(client=client, digest=digest, snapshot=snapshot)
        known.changes += 1
        return ConfigurationChanged(client=client, change=change)

    def forget(self, client: bytes) -> None:
        """It is not certain what the log has of it: it is recorded whole when it comes next."""
        self._known.pop(client, None)

    async def run(self) -> None:
        """Record what an hour has brought when it is over, until cancelled; then what is left of it."""
        try:
            while True:
                await asyncio.sleep(LOOK)
                await self._summarise(lambda known: known.hour + HOUR <= self._clock())
        finally:
            await self._summarise(lambda known: True)

    async def _summarise(self, is_due: Callable[[_Known], bool]) -> None:
        for client, known in list(self._known.items()):
            if known.unrecorded and is_due(known):
                try:
                    await self._record(*self._summary(client, known))
                except LogError as error:
                    _logger.warning("what a node changed is not recorded", why=error.why)
                    self.forget(client)

    def _summary(self, client: bytes, known: _Known) -> tuple[Event, ...]:
        flapped = ConfigurationFlapped(client=client, changes=known.unrecorded, began=known.began)
        known.hour, known.in_hour, known.unrecorded = self._clock(), 0, 0
        if not known.held:
            return (flapped,)
        snapshot = _snapshot.decode(known.held)
        change = difference(_snapshot.decode(known.recorded), snapshot) if known.recorded else None
        return flapped, self._recorded(client, known, snapshot, change, known.confirmed)

    def _keep(self, client: bytes, known: _Known) -> None:
        self._known[client] = known
        if len(self._known) > MAX_KNOWN:
            del self._known[next(iter(self._known))]

    @staticmethod
    def _clock() -> float:
        return asyncio.get_running_loop().time()


def _encoded(snapshot: Snapshot) -> bytes:
    return encoder.encode(snapshot)
