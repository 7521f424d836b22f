"""The simulated log: the log in memory behind a network and a server that fail in all the ways that JetStream does.

A store may be refused, be stored without an acknowledgement, not be stored without one, be stored long after its
writer has given up, or take so long that others on its subject are sent away; a follow may be late; a replica that is
asked may not have what is stored. What is stored stays.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from random import Random

from dnms.bus.keys import Keys, KeyStore
from dnms.bus.memory import MemoryLog
from dnms.bus.port import Batch, LogError, Record, Unanswered, Unavailable
from dnms.events import codec
from dnms.events.commit import Commit
from dnms.events.sealing import Key
from dnms.kit.clock import MICROSECONDS
from tests.simulation.trace import Trace

STORE_TIMEOUT = 3.0  # seconds, as JetStreamLog's
SETTLED = 10.0  # seconds after which a write that was begun has ended for who waits for it
IN_FLIGHT_PAUSE = 0.1  # seconds until a writer that was sent away tries again
HELD_AND_STORED = 0.7  # of the held writes; the others failed
LAG = 0.5  # seconds by which a replica is behind at most
EPOCH = 1_700_000_000 * MICROSECONDS


class Faults:
    """How often what goes wrong, of one store or batch."""

    def __init__(
        self,
        *,
        lost: float = 0.0,
        unacknowledged: float = 0.0,
        late: float = 0.0,
        held: float = 0.0,
        slow: float = 0.0,
        stale: float = 0.0,
    ) -> None:
        self.lost = lost  # not stored, and nobody says so
        self.unacknowledged = unacknowledged  # stored, and nobody says so
        self.late = late  # stored after the writer has given up
        self.held = held  # being written for seconds, and nobody else writes there meanwhile (error 10164)
        self.slow = slow  # a batch of a follow comes seconds late
        self.stale = stale  # a replica answers that is behind


class SimulatedLog(MemoryLog):
    """The server."""

    def __init__(self, site: str, chance: Random, trace: Trace) -> None:
        super().__init__(site, log_id="log", now=self.now)
        self.chance = chance
        self.key_chance = Random(0)  # one for all processes, so that no two keys have one id
        self.trace = trace
        self.faults = Faults()
        self.skew = 0  # microseconds by which its clock was set
        self.up = asyncio.Event()
        self.up.set()
        self.full_since: float | None = None  # its disk is, on the loop's clock: it can be read, and not stored to
        self.stored_at: list[float] = []  # of each message, on the loop's clock
        self.in_flight: set[str] = set()  # subjects on which a write has not ended
        self.told: Callable[[Commit], None] = lambda commit: None  # is called with each commit that is stored

    @property
    def is_long_full(self) -> bool:
        """It is full, and all that was stored before is acknowledged, or given up by who waits for that."""
        return self.full_since is not None and asyncio.get_running_loop().time() > self.full_since + SETTLED

    def now(self) -> int:
        return EPOCH + round(asyncio.get_running_loop().time() * MICROSECONDS) + self.skew

    def set_clock(self, seconds: int) -> None:
        """Somebody sets its clock, forward or back."""
        self.skew += seconds * MICROSECONDS

    def let_time_come(self) -> None:
        """After its clock was set back: it is as late again as it was, without what happens until then. Meanwhile no
        lease would end.
        """
        newest = max((codec.decode(record.data).time for record in self.records), default=0)
        self.skew += max(0, newest - self.now())

    def put(self, subject: str, data: bytes, expected: int) -> int:
        """Store at once, or LostRace."""
        try:
            self.store(subject, data, expected=expected).send(None)
        except StopIteration as done:
            sequence: int = done.value
            return sequence
        raise AssertionError("a store in memory waits for nothing")

    async def store(self, subject: str, data: bytes, *, expected: int) -> int:
        sequence = await super().store(subject, data, expected=expected)
        self.stored_at.append(asyncio.get_running_loop().time())
        commit = codec.decode(data)
        events, crc = ",".join(event.NAME for event in commit.events), zlib.crc32(data)
        self.trace.note("stored", sequence=sequence, on=subject, by=commit.actor, events=events, crc=crc)
        self.told(commit)
        return sequence


class _InFlight(LogError):
    """Another write on the subject has not ended."""


class _KeysClient:
    """One process's way to the store of keys, which is where the log is; a key may be stored without an answer."""

    def __init__(self, log: LogClient, store: KeyStore) -> None:
        self._log = log
        self._store = store

    async def create(self, key: Key) -> None:
        answered = await self._log.ask_for_keys()
        await self._store.create(key)
        if not answered:
            raise Unanswered("lost")

    async def find(self, client: bytes) -> Key | None:
        await self._log.ask_for_keys()
        return await self._store.find(client)

    async def since(self, place: int) -> tuple[Sequence[Key], int]:
        await self._log.ask_for_keys()
        return await self._store.since(place)

    async def destroy(self, key: bytes, client: bytes) -> None:
        await self._log.ask_for_keys()
        await self._store.destroy(key, client)


class LogClient:
    """One process's way to the log: `port.Log`."""

    def __init__(self, server: SimulatedLog, name: str) -> None:
        self.cut = False  # this process alone does not reach it
        self.dead = False  # the process has ended
        self._server = server
        self._name = name
        self.keys = Keys(_KeysClient(self, server.keys.store), random=server.key_chance.randbytes)

    @property
    def log_id(self) -> str:
        return self._server.log_id

    @property
    def reachable(self) -> bool:
        return self._server.up.is_set() and not self.cut and not self.dead

    async def store(self, subject: str, data: bytes, *, expected: int) -> int:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + STORE_TIMEOUT
        while True:
            try:
                return await self._request(subject, data, expected)
            except _InFlight:
                if loop.time() + IN_FLIGHT_PAUSE > deadline:
                    raise Unavailable(f"{subject}: another write does not end") from None
            await asyncio.sleep(IN_FLIGHT_PAUSE)

    async def ask_for_keys(self) -> bool:
        """Ask the store of keys; False if its answer is lost. Unavailable."""
        await self._ask()
        return self._server.chance.random() >= self._server.faults.unacknowledged

    async def _request(self, subject: str, data: bytes, expected: int) -> int:
        server, loop = self._server, asyncio.get_running_loop()
        await self._ask()
        answered: asyncio.Future[int] = loop.create_future()
        fate = self._draw()
        arrival = server.chance.uniform(0.001, 0.01)
        if fate == "late":
            arrival = server.chance.choice((server.chance.uniform(0.5, 3.0), server.chance.uniform(3.0, 25.0)))
        if fate != "lost":
            loop.call_later(arrival, self._arrive, subject, data, expected, answered, fate)
        if fate != "stored":
            server.trace.note("log", by=self._name, fate=fate, after=round(arrival, 3))
        try:
            async with asyncio.timeout(STORE_TIMEOUT):
                return await answered
        except TimeoutError:
            raise Unanswered(f"{subject}: no acknowledgement") from None

    def _draw(self) -> str:
        """What becomes of a store."""
        draw, faults = self._server.chance.random(), self._server.faults
        for fate in ("lost", "unacknowledged", "late", "held"):
            rate: float = getattr(faults, fate)
            if draw < rate:
                return fate
            draw -= rate
        return "stored"

    def _arrive(self, subject: str, data: bytes, expected: int, answered: asyncio.Future[int], fate: str) -> None:
        server = self._server
        if not server.up.is_set() or (self.cut and fate != "late"):
            return  # on its way when the way was lost
        if server.full_since is not None:
            self._reply(answered, Unavailable("the disk is full"))
        elif subject in server.in_flight:
            server.trace.note("log", by=self._name, fate="another write is in flight", on=subject)
            self._reply(answered, _InFlight(subject))
        elif fate == "held":
            server.in_flight.add(subject)
            held = server.chance.uniform(0.05, 4.0)
            asyncio.get_running_loop().call_later(held, self._end_write, subject, data, expected, answered)
        else:
            outcome = self._put(subject, data, expected)
            if fate != "unacknowledged":
                self._reply(answered, outcome)

    def _end_write(self, subject: str, data: bytes, expected: int, answered: asyncio.Future[int]) -> None:
        """A held write ends: it is stored, or failed and nobody says so."""
        self._server.in_flight.discard(subject)
        if not self._server.up.is_set() or self._server.full_since is not None:
            return
        if self._server.chance.random() < HELD_AND_STORED:
            self._reply(answered, self._put(subject, data, expected))

    def _put(self, subject: str, data: bytes, expected: int) -> int | LogError:
        try:
            return self._server.put(subject, data, expected)
        except LogError as error:
            return error

    def _reply(self, answered: asyncio.Future[int], outcome: int | LogError) -> None:
        way = self._server.chance.uniform(0.001, 0.01)
        asyncio.get_running_loop().call_later(way, self._answer, answered, outcome)

    def _answer(self, answered: asyncio.Future[int], outcome: int | LogError) -> None:
        if answered.done() or not self.reachable:
            return
        if isinstance(outcome, LogError):
            answered.set_exception(outcome)
        else:
            answered.set_result(outcome)

    async def first_after(self, subject: str, sequence: int) -> Record | None:
        await self._ask()
        found = await self._server.first_after(subject, sequence)
        if found is not None and self._server.chance.random() < self._server.faults.stale:
            now = asyncio.get_running_loop().time()
            if self._server.stored_at[found.sequence - 1] > now - self._server.chance.uniform(0, LAG):
                return None
        return found

    async def end(self) -> int:
        await self._ask()
        return await self._server.end()

    async def clock(self) -> int:
        await self._ask()
        return self._server.now()

    async def follow(self, subjects: Sequence[str], *, after: int = 0) -> AsyncGenerator[Batch, None]:
        server = self._server
        async with aclosing(server.follow(subjects, after=after)) as batches:
            async for batch in batches:
                await asyncio.sleep(server.chance.uniform(0.001, 0.01))
                if server.chance.random() < server.faults.slow:
                    await asyncio.sleep(server.chance.uniform(0.05, 4.0))
                while not self.reachable:  # noqa: ASYNC110  # as a client that connects again
                    await asyncio.sleep(0.5)
                yield batch

    async def _ask(self) -> None:
        """The way there and back. Unavailable."""
        await asyncio.sleep(self._server.chance.uniform(0.001, 0.01))
        if not self.reachable:
            raise Unavailable("the log cannot be reached")
