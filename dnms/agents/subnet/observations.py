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
from dnms.events.configuration import Snapshot
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

    recorded: bytes  # the snapshot, encoded: a node's structs would take several times as much
    confirmed: bytes  # digest of what the node was told that the agent has
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
        known = self._known.pop(client, None)
        if known is None or known.confirmed != follows or known.changes >= WHOLE_AFTER:
            hour, in_hour = (known.hour, known.in_hour) if known is not None else (self._clock(), 0)
            self._keep(client, _Known(_encoded(snapshot), digest, hour=hour, in_hour=in_hour))
            return (ConfigurationRegistered(client=client, digest=digest, snapshot=snapshot),)
        self._keep(client, known)
        known.confirmed = digest
        change = difference(_snapshot.decode(known.recorded), snapshot)
        if change == NO_DIFFERENCE:
            known.held = b""
            return ()
        if known.hour + HOUR <= self._clock() and not known.unrecorded:
            known.hour, known.in_hour = self._clock(), 0
        if known.in_hour >= MOST:
            known.began = known.began if known.unrecorded else self._now()
            known.unrecorded += 1
            known.held = _encoded(snapshot)
            return ()
        known.recorded, known.changes, known.in_hour = _encoded(snapshot), known.changes + 1, known.in_hour + 1
        return (ConfigurationChanged(client=client, change=change),)

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
        change = difference(_snapshot.decode(known.recorded), _snapshot.decode(known.held))
        known.recorded, known.held, known.changes = known.held, b"", known.changes + 1
        return flapped, ConfigurationChanged(client=client, change=change)

    def _keep(self, client: bytes, known: _Known) -> None:
        self._known[client] = known
        if len(self._known) > MAX_KNOWN:
            del self._known[next(iter(self._known))]

    @staticmethod
    def _clock() -> float:
        return asyncio.get_running_loop().time()


def _encoded(snapshot: Snapshot) -> bytes:
    return encoder.encode(snapshot)
