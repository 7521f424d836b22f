"""What a Subnet Agent does by itself while the log is away, and how that comes into the log afterwards.

Theory of operation. The agent is away once a commit has failed, or the log does not tell its time; whoever waits for a
commit then is let go, and served by what the agent knows. What that is, is a draft of the ledger: the fold, with what
this agent has granted since. A grant is in the journal on this machine's disk before a node is told. To come back, the
ledger is folded to its end, and the journal merged, entry by entry; an entry leaves the journal when its commit is
acknowledged. Until the journal is empty the agent is away, so nobody is given here what it holds for somebody. At last
the agent records that it was away: a log that can be read but not stored to, as on a full disk, is away still. Where
all that is cut short at any point, it begins anew: merging twice changes nothing.

Without a journal, or on a strict subnet, the agent is never away, and waits for the log.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from itertools import islice
from typing import Any, Protocol, TypeVar

import msgspec
import structlog

from dnms.bus.committer import Committer
from dnms.bus.port import LogError, LostRace, Unanswered, Unavailable
from dnms.disk.journal import JournalError
from dnms.domain import declining, outage
from dnms.domain.aggregate import Refused
from dnms.domain.ledger import Ledger
from dnms.domain.outage import OUTAGE
from dnms.events.address import AddressBlocked, OutageGranted
from dnms.events.ip import format_address
from dnms.events.recorded import Event
from dnms.events.requests import AllocateAddress, MergeOutage
from dnms.kit.clock import MICROSECONDS

DOUBT = 2.0  # seconds for which a commit is waited for before the log is asked whether it is there
FIRST_PAUSE = 0.5
LONGEST_PAUSE = 5.0
"""Seconds between two attempts to come back, doubling from the one to the other."""
MERGED_AT_ONCE = 500
MAX_GRANTED = 65_536  # entries of a journal: whoever invents clients in an outage must not fill the disk

_logger = structlog.get_logger(__name__)

T = TypeVar("T")
Key = tuple[bytes, int, bytes]
"""Client, IAID and address."""


class Journal(Protocol):
    """Where grants are kept that the log does not have yet; `dnms.disk.journal` is one."""

    @property
    def entries(self) -> Sequence[MergeOutage]:
        """Those that a former process has left."""
        ...

    async def write(self, entry: MergeOutage) -> None:
        """Keep it, in place of an earlier one of the same client and address. JournalError if it is not durable."""
        ...

    async def remove(self, *entries: MergeOutage) -> None:
        """Keep these no longer, but where another one has come into the place. JournalError."""
        ...


class Outage:
    """Whether the log is away, and what was granted meanwhile. `counts` has what was done since, by stable words."""

    def __init__(
        self,
        committer: Committer[Ledger],
        journal: Journal | None,
        *,
        now: Callable[[], int],
        reach: Callable[[], Awaitable[object]],
        back: Callable[[], Awaitable[None]],
    ) -> None:
        """`now` is the log's clock as it is known here; `reach` asks the log for anything, and raises Unavailable.

        `back` is called when the journal is merged, at the end of being away, and returns when the log has acknowledged
        a commit: it may raise LogError, which prolongs it.
        """
        self.active = False
        self.counts: Counter[str] = Counter()
        self.began = 0  # the newest outage, in microseconds of the log's clock as it is known here
        self.doubted = asyncio.Event()  # somebody should look whether the log is there
        self._committer = committer
        self._journal = journal
        self._now = now
        self._reach = reach
        self._back = back
        entries = journal.entries if journal is not None else ()
        self._granted: dict[Key, MergeOutage] = {_key(each): each for each in entries}
        self._over: dict[Key, MergeOutage] = {}  # granted, and declined: facts for the log, and nobody's
        self._declined: dict[bytes, tuple[bytes, int]] = {}  # by address: by whom, and until when nobody gets it
        self._draft: tuple[int, Ledger] | None = None  # with the position of the fold that it is of
        self._writing = asyncio.Lock()  # so that what is written is removed after that, and never before
        self._away = asyncio.Event()
        self._waiting: dict[asyncio.Future[Any], float] = {}  # for the log, and since when, the longest first
        self._doubting: asyncio.TimerHandle | None = None
        self._since = 0.0

    @property
    def ledger(self) -> Ledger:
        """The ledger as far as it is known here, with what is in the journal; not to be changed."""
        fold = self._committer.fold
        if self._draft is None or self._draft[0] != fold.sequence:
            ledger, at = fold.state.draft(), self._now()
            for address, (client, until) in self._declined.items():
                _evolve(ledger, AddressBlocked(address=address, client=client, blocked_until=until), at)
            for entry in self._granted.values():
                contested = not ledger.is_open_to(entry.address, entry.client, entry.iaid)
                _evolve(ledger, _granted(entry, contested=contested), at)
            self._draft = fold.sequence, ledger
        return self._draft[1]

    def begin(self, why: str) -> None:
        """The log is away, unless that is known already, or this subnet waits for it."""
        subnet = self._committer.fold.state.plan.subnet
        if self.active or self._journal is None or subnet is None or subnet.strict:
            return
        _logger.warning("outage: the log cannot be reached", reason=why)
        self._enter()

    def _enter(self) -> None:
        self.active, self._draft, self._since = True, None, asyncio.get_running_loop().time()
        self.began = self._now()
        self.counts.clear()
        for waiting in self._waiting:
            waiting.cancel()
        self._away.set()

    async def unless(self, work: Coroutine[Any, Any, T]) -> T:
        """Have the log do something, unless it is away, or until it is. LogError; Unavailable, if it is away."""
        if self.active:
            work.close()
            raise Unavailable("the log is away")
        return await self.until(asyncio.ensure_future(work))

    async def until(self, waiting: asyncio.Future[T]) -> T:
        """What the log has been asked, unless it is away before that is answered. LogError; Unavailable, if it is."""
        try:
            return await self.watched(waiting)
        except asyncio.CancelledError:
            waiter = asyncio.current_task()
            if self.active and waiter is not None and not waiter.cancelling():
                raise Unavailable("the log is away") from None
            raise

    def watched(self, waiting: asyncio.Future[T]) -> asyncio.Future[T]:
        """The same, which is cancelled when the log is away."""
        loop = asyncio.get_running_loop()
        self._waiting[waiting] = loop.time()
        if self._doubting is None:
            self._doubting = loop.call_later(DOUBT, self._doubt)
        waiting.add_done_callback(self._answered)  # before who waits hears of it
        return waiting

    def _answered(self, waiting: asyncio.Future[Any]) -> None:
        del self._waiting[waiting]
        error = None if waiting.cancelled() else waiting.exception()
        if isinstance(error, Unavailable | Unanswered):
            self.begin(str(error))

    def _doubt(self) -> None:
        """See that somebody looks for the log where one waits for too long. One timer for all, since there are many."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        if any(since + DOUBT <= now for since in islice(self._waiting.values(), 1)):
            self.doubted.set()
        later = next((since for since in self._waiting.values() if since + DOUBT > now), None)
        self._doubting = None if later is None else loop.call_at(later + DOUBT, self._doubt)

    # -- while it is away ----------------------------------------------------------------------------------------------

    def has_granted(self, client: bytes, iaid: int, address: bytes) -> bool:
        """Whether the journal has this."""
        return (client, iaid, address) in self._granted

    async def grant(self, request: AllocateAddress) -> bytes:
        """Give a client an address, or the one that it has for longer; durable when this returns. Refused `outage`."""
        ledger, at = self.ledger, self._now()
        lease = ledger.lease(request.client, request.iaid, request.family)
        before = self._granted.get((request.client, request.iaid, lease.address)) if lease is not None else None
        entry = outage.grant(ledger, request, at=at, since=before.happened if before is not None else 0)
        if before is None and len(self._granted) >= MAX_GRANTED:
            raise Refused(OUTAGE, f"the journal has {MAX_GRANTED} entries")
        key = _key(entry)
        self._granted[key] = entry
        _evolve(ledger, _granted(entry), at)  # at once: who asks next must not be given it
        try:
            await self._write(entry)
        except JournalError as error:
            if self._granted.get(key) is entry:
                del self._granted[key]
                if before is not None:
                    self._granted[key] = before
                self._draft = None
            _logger.error("not granted", address=format_address(entry.address), reason=str(error))
            raise Refused(OUTAGE, "the journal cannot be written") from error
        self.counts["granted" if before is None else "prolonged"] += 1
        return entry.address

    async def decline(self, client: bytes, iaid: int, address: bytes) -> None:
        """The client found what it was granted in use by another, and does not use it: that it was granted goes into
        the log, and nobody is given it here. Refused `outage` if it is not this agent's alone to take back.
        """
        entry = self._granted.get((client, iaid, address))
        known = self._committer.fold.state.leases.get(address)
        if entry is None or (known is not None and known.client == client):
            raise Refused(OUTAGE, "the log has to know of that")
        at, pool = self._now(), self.ledger.pool_of(address)
        over = msgspec.structs.replace(entry, valid_until=at, horizon=at)
        try:
            declining.check(self.ledger, client, at=at)
            await self._write(over)
        except JournalError as error:
            raise Refused(OUTAGE, "the journal cannot be written") from error
        except Refused as refusal:
            raise Refused(OUTAGE, refusal.text) from refusal
        self._granted.pop(_key(entry), None)
        self._over[_key(entry)] = over
        self._declined[address] = client, at + (pool.quarantine if pool is not None else 0) * MICROSECONDS
        self._draft = None
        self.counts["declined"] += 1

    async def _write(self, entry: MergeOutage) -> None:
        assert self._journal is not None
        async with self._writing:
            await self._journal.write(entry)

    async def _remove(self, *entries: MergeOutage) -> None:
        assert self._journal is not None
        async with self._writing:
            await self._journal.remove(*entries)

    # -- and when it is back -------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Come back as soon as the log is there, each time that it was away, until cancelled. The fold is complete."""
        if self._granted and not self.active:
            _logger.info("the journal of an outage is merged first", entries=len(self._granted))
            self._enter()
        while True:
            await self._away.wait()
            pause = FIRST_PAUSE
            while not await self._come_back():
                await asyncio.sleep(pause)
                pause = min(2 * pause, LONGEST_PAUSE)

    async def _come_back(self) -> bool:
        try:
            await self._reach()
            await self._committer.catch_up()
            while entries := self._unmerged():
                for first in range(0, len(entries), MERGED_AT_ONCE):
                    await self._merge(entries[first : first + MERGED_AT_ONCE])
            await self._back()
        except (Unavailable, Unanswered, LostRace) as error:
            _logger.debug("the log is still away", reason=str(error))
            return False
        if self._unmerged():
            return False  # somebody was granted something meanwhile
        self.active, self._draft = False, None
        self._declined.clear()
        self._away.clear()
        self.doubted.set()  # its clock may be another
        seconds = round(asyncio.get_running_loop().time() - self._since, 1)
        _logger.info("outage is over", seconds=seconds, **{word: self.counts[word] for word in COUNTED})
        return True

    def _unmerged(self) -> list[MergeOutage]:
        """What the log does not have; last what is over, so that it is no client's first address."""
        return sorted((*self._granted.values(), *self._over.values()), key=lambda entry: -entry.horizon)

    def _forget(self, entry: MergeOutage) -> None:
        for entries in (self._granted, self._over):
            if entries.get(_key(entry)) is entry:
                del entries[_key(entry)]

    async def _merge(self, entries: Sequence[MergeOutage]) -> None:
        """Bring these into the log. LogError, and then those that are in it are out of the journal."""
        outcomes = await asyncio.gather(*map(self._committer.submit, entries), return_exceptions=True)
        done: list[MergeOutage] = []
        failed: LogError | None = None
        for entry, outcome in zip(entries, outcomes, strict=True):
            if isinstance(outcome, LogError):
                failed = outcome
            elif isinstance(outcome, BaseException):
                self._not_merged(entry, outcome)
            else:
                done.append(entry)
                self._merged(entry, outcome)
        try:
            if done:
                await self._remove(*done)
        except JournalError as error:
            _logger.error("merged, and still in the journal", entries=len(done), reason=str(error))
        for entry in done:
            self._forget(entry)
        self._draft = None
        if failed is not None:
            raise failed

    def _merged(self, entry: MergeOutage, events: tuple[Event, ...]) -> None:
        self.counts["merged"] += 1
        if any(isinstance(event, OutageGranted) and event.contested for event in events):
            self.counts["contested"] += 1
            seconds = round((self._committer.fold.time - entry.happened) / MICROSECONDS, 1)
            address = format_address(entry.address)
            _logger.warning("an address that was given in the outage was another's", address=address, seconds=seconds)

    def _not_merged(self, entry: MergeOutage, error: BaseException) -> None:
        """It stays in the journal for the next start, which may be of a release that can."""
        why = error.why if isinstance(error, Refused) else repr(error)
        _logger.error("not merged, and left in the journal", address=format_address(entry.address), why=why)
        self.counts["not-merged"] += 1
        self._forget(entry)


COUNTED = ("granted", "prolonged", "declined", "refused", "merged", "contested")
"""What is told at the end of an outage."""


def _key(entry: MergeOutage) -> Key:
    return entry.client, entry.iaid, entry.address


def _granted(entry: MergeOutage, *, contested: bool = False) -> OutageGranted:
    fields = {name: getattr(entry, name) for name in entry.__struct_fields__}
    return OutageGranted(**fields, contested=contested)


def _evolve(ledger: Ledger, event: Event, at: int) -> None:
    ledger.evolve(event, at=at, position=0)
