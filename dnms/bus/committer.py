"""Group commit: many who ask, one commit in flight.

Theory of operation. A committer owns the fold of one subject, and there is one committer for a subject in a process;
any number of processes commit to one subject. Who asks calls `submit` and waits. `run` takes all questions that have
come meanwhile, decides them in their order on a draft of the fold, and appends the outcome as one commit that expects
to follow the newest commit folded. While that is in flight, further questions gather for the next one; so a slower log
makes larger commits, and not fewer answers.

Where several processes meet they take turns, see `turns`, and who loses a race makes its next attempt shorter. Until
its turn a question waits, as it does while a commit is in flight.

The log accepts it: the commit is folded, unless the follow was faster, and then everybody is answered. The log
refuses it, since another process committed first: the fold takes what it missed, from the follow that the owner feeds
into `take`, or by a read of its own, and the same questions are decided again, the oldest first. The log does not
answer: `append` finds out, and if it cannot, everybody who waits gets that error. Nobody is told of an event that the
log does not hold.

The fold takes commits in the order of the log only, whoever brings them. Between our commit and its acknowledgement
the follow may bring ours, and others' after it: they are folded at once, and the acknowledgement then finds nothing to
do. (A design that dropped what came meanwhile gave 21 addresses twice in an experiment.)

A subject may be one process's alone, as `seen` is. What others commit there, as its former self did, goes to
`foreign`. After a commit of its own that proves that a second process takes itself for this one: what a killed one had
under way expects an older commit, and the log refuses it.

What is personal is sealed before it is decided, with keys that are stored before the commit (`keys`).

What does not need the log does not wait for it. A grant without an event is answered at once, unless an event before
it in the same draft is still to be committed. A refusal that was recorded in the last minute is counted and not
written again; the next one that is written says how many it stands for.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import aclosing, suppress
from itertools import islice
from typing import Generic, Self, TypeVar, cast

import structlog

from dnms.bus.append import FIRST_PAUSE, LONGEST_PAUSE, PATIENCE, append
from dnms.bus.drafting import Asked, Draft, Outcome, Refusals, draft
from dnms.bus.port import Doubled, Log, LogDamaged, LogError, LogForked, LostRace, Unanswered, Unavailable
from dnms.bus.reading import read
from dnms.bus.turns import MAX_WAIT, Turns
from dnms.domain.aggregate import ChainBroken, Fold, Question, Refused, State
from dnms.events.commit import MAX_EVENTS, Stored
from dnms.events.recorded import Event, Request
from dnms.events.sealing import is_personal

MAX_ASKED = 1_000
"""Questions in one commit. Deciding them keeps the event loop for some 50 ms; more would make nothing faster."""

MIN_ASKED = 64
"""Questions in one commit, however many races were lost before and however many wait. Who decides for long loses to
those who decide for a moment, and what had to wait makes the next attempt longer: so it would never win again."""

FOLLOW_PATIENCE = 0.05  # seconds after a lost race for the follow to bring what was missed, before we read it ourselves
CATCH_UP_PATIENCE = 15.0  # seconds for a read of our own, and for the log to show who won a race

_logger = structlog.get_logger(__name__)

S = TypeVar("S", bound=State)


class WriteOnly:
    """The state of a subject that is only written to, as `seen` is: it keeps nothing and grants nothing."""

    plan_position = 0

    def entropy(self, request: Request) -> int:
        """None."""
        return 0

    def decide(self, request: Request, *, at: int, entropy: bytes) -> tuple[Event, ...]:
        """Refused, always."""
        raise Refused("not-decided-here", f"nothing is decided on this subject, {request.NAME} neither")

    def evolve(self, event: Event, *, at: int, position: int) -> None:
        """Keep nothing."""

    def draft(self) -> Self:
        """Itself: it cannot change."""
        return self


class Committer(Generic[S]):
    """The group commit of one subject. `counts` has what it did, by stable words."""

    def __init__(
        self,
        log: Log,
        subject: str,
        fold: Fold[S],
        *,
        actor: str,
        now: Callable[[], int],
        random: Callable[[int], bytes],
        foreign: Callable[[Stored], None] | None = None,
    ) -> None:
        """`now` is the log's clock in microseconds as this process knows it; `random` draws that many bytes.

        `foreign` is given for a subject that is this process's alone: it takes every commit of others, and raises
        Doubled, once this process `has_written`, for what nothing here can put right.
        """
        self.subject = subject
        self.fold = fold
        self.counts: Counter[str] = Counter()
        self.has_written = False  # a commit of this process is in the log
        self._foreign = foreign
        self._drafted: set[bytes] = set()  # ids of what this process may have stored behind the newest commit folded
        self._log = log
        self._actor = actor
        self._now = now
        self._random = random
        self._queue: deque[Asked] = deque()
        self._batch: list[Asked] = []  # is being settled
        self._limit = MAX_ASKED
        self._began = 0.0  # when the batch was decided, on the event loop's clock
        self._asked = asyncio.Event()
        self._folded = asyncio.Event()
        self._refusals = Refusals()
        self._turns = Turns()
        self._ended: LogError | None = None

    async def submit(self, request: Request) -> tuple[Event, ...]:
        """Have a request decided, and return its events once they are in the log.

        Refused; or a LogError, and then it is not known to be in the log, and must not be acted upon.
        """
        events, _ = await self.asked(request)
        return events

    def asked(self, request: Request) -> asyncio.Future[tuple[tuple[Event, ...], int]]:
        """As `submit`, for who waits himself: its events, and the sequence of their commit. LogError."""
        asked = Asked(Question(request))
        self._ask(asked)
        return asked.answered

    async def submit_all(self, requests: Iterable[Request]) -> list[tuple[Event, ...] | BaseException]:
        """Have several decided, side by side: with each what `submit` would have returned, or raised.

        It costs no task a request, as calling that for each would.
        """
        asked = [Asked(Question(request)) for request in requests]
        for each in asked:
            self._ask(each)
        outcomes = await asyncio.gather(*(each.answered for each in asked), return_exceptions=True)
        return [outcome if isinstance(outcome, BaseException) else outcome[0] for outcome in outcomes]

    async def observe(self, events: Sequence[Event]) -> int:
        """Append events that nobody decided, at most MAX_EVENTS, together; the sequence of their commit. LogError."""
        if not 0 < len(events) <= MAX_EVENTS:
            raise ValueError(f"{len(events)} events; a commit holds 1 to {MAX_EVENTS}")
        asked = Asked(None, tuple(events))
        self._ask(asked)
        _, sequence = await asked.answered
        return sequence

    def _ask(self, asked: Asked) -> None:
        """Have it settled; LogError if nothing is any more."""
        if self._ended is not None:
            raise self._ended
        self._queue.append(asked)
        self._asked.set()

    def take(self, stored: Stored) -> bool:
        """Fold a commit that the owner's follow brought; False if it is folded already, as our own mostly are.

        LogDamaged if commits are missing before it, Doubled if it is another's on a subject that is ours alone.
        """
        try:
            taken = self.fold.take(stored)
        except ChainBroken as error:
            raise LogDamaged(str(error)) from error
        if taken:
            self._log.keys.take(stored)
            ours = stored.commit.id in self._drafted
            now = asyncio.get_running_loop().time()
            if ours:
                self._turns.ours(now, took=now - self._began)
            else:
                self._turns.others(stored.commit.actor, now, waiting=bool(self._batch or self._queue))
            self._drafted.clear()  # what was drafted behind an older commit is refused by the log
            self.has_written |= ours
            self._folded.set()
            if not ours and self._foreign is not None:
                self._foreign(stored)
        return taken

    async def catch_up(self) -> None:
        """Fold the subject up to its end by a read of our own, as an owner without a follow needs. LogError."""
        try:
            async with (
                asyncio.timeout(CATCH_UP_PATIENCE),
                aclosing(read(self._log, (self.subject,), after=self.fold.sequence)) as batches,
            ):
                async for batch in batches:
                    for stored in batch.stored:
                        self.take(stored)
                    if batch.caught_up:
                        return
        except TimeoutError:
            raise Unavailable(f"{self.subject}: not read to its end within {CATCH_UP_PATIENCE:.0f} s") from None

    async def run(self) -> None:
        """Settle what is asked, until cancelled. Ends by itself only where nothing more can be right.

        That is LogForked, LogDamaged, Doubled, or UnknownToThisRelease.
        """
        ended: LogError | None = None
        try:
            while True:
                while not self._queue:
                    self._asked.clear()
                    await self._asked.wait()
                await self._turn()
                self._gather()
                while self._batch:
                    await self._settle()
                    if self._batch:  # a race was lost
                        await self._turn()
                        self._gather()
        except (LogForked, LogDamaged, Doubled) as error:
            ended = error
            raise
        finally:
            self._ended = ended or Unavailable(f"{self.subject}: the committer has ended")
            self._fail(ended or Unanswered(f"{self.subject}: the committer ended before it was answered"))
            self._batch = list(self._queue)
            self._queue.clear()
            self._fail(self._ended)

    async def _turn(self) -> None:
        """Let those write first whose turn it is, while several processes write this subject at once."""
        loop = asyncio.get_running_loop()
        latest = loop.time() + MAX_WAIT
        while (begins := min(latest, self._turns.begins(loop.time()))) > loop.time():
            self._folded.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout_at(begins):
                    await self._folded.wait()

    def _gather(self) -> None:
        """Take all into the batch that have come, up to its limit: those who lost a race go together with them."""
        while self._queue and len(self._batch) < self._limit:
            asked = self._queue.popleft()
            if not asked.answered.done():  # who asked has gone, and nothing was decided yet
                self._batch.append(asked)

    async def _settle(self) -> None:
        """Decide the batch, append it and answer; what is still in it afterwards is to be decided again."""
        self._began = asyncio.get_running_loop().time()
        try:
            await self._seal()
        except Unavailable as error:
            _logger.warning("no keys", subject=self.subject, text=str(error))
            self._fail(error)
            return
        try:
            drafted = self._draft()
        except Exception as error:  # what cannot be decided or written must not stop the others
            self._halve(error)
            return
        self._queue.extendleft(reversed(drafted.rest))
        self._limit = min(MAX_ASKED, 2 * self._limit)
        self._answer(drafted.free, 0)
        self._batch = [outcome.asked for outcome in drafted.waiting]
        if not drafted.data:
            return
        self._drafted.add(drafted.commit.id)
        try:
            sequence = await append(
                self._log,
                self.subject,
                drafted.data,
                expected=drafted.commit.predecessor,
                patience=self._patience(),
            )
        except LostRace:
            self.counts[LostRace.why] += 1
            self._turns.meet(asyncio.get_running_loop().time())
            self._shorten(max(MIN_ASKED, len(self._batch) // 2))
            await self._fold_what_was_missed(drafted.commit.predecessor)
        except (Unavailable, Unanswered) as error:
            _logger.warning("not committed", subject=self.subject, why=error.why, text=str(error))
            self._fail(error)
        else:
            self._acknowledged(drafted, sequence)

    def _patience(self) -> float:
        """What is left of it: who has waited behind a commit that failed does not wait as long once more."""
        return max(0.0, self._batch[0].since + PATIENCE - asyncio.get_running_loop().time())

    async def _seal(self) -> None:
        """Seal what is personal in the batch, each time anew: a node may have been forgotten since. Unavailable."""
        personal = [asked for asked in self._batch if any(map(is_personal, asked.clear))]
        if not personal:
            return
        sealed = iter(
            await self._log.keys.seal([each for asked in personal for each in asked.clear], patience=self._patience())
        )
        for asked in personal:
            its = tuple(islice(sealed, len(asked.clear)))
            if asked.question is None:
                asked.observed = cast("tuple[Event, ...]", its)
            else:
                asked.question = Question(cast("Request", its[0]), asked.question.entropy)

    def _draft(self) -> Draft:
        for asked in self._batch:
            if asked.question is not None:
                request = asked.question.request
                wanted = self.fold.state.entropy(request)
                if wanted != len(asked.question.entropy):
                    asked.question = Question(request, self._random(wanted) if wanted else b"")
        return draft(
            cast("Fold[State]", self.fold),
            self._batch,
            refusals=self._refusals,
            commit_id=self._random(16),
            at=max(self.fold.time, self._now()),
            actor=self._actor,
        )

    def _halve(self, error: Exception) -> None:
        """Settle half of the batch before the other half: it is too large, or one is broken, which is found so."""
        if len(self._batch) > 1:
            self._shorten(len(self._batch) // 2)
            return
        _logger.error("a request could not be settled", subject=self.subject, exc_info=error)
        self.counts["broken"] += 1
        self._batch.pop().fail(error)

    def _shorten(self, limit: int) -> None:
        """Settle no more than these at once, and the rest of the batch after them."""
        self._limit = limit
        self._queue.extendleft(reversed(self._batch[limit:]))
        del self._batch[limit:]

    def _acknowledged(self, drafted: Draft, sequence: int) -> None:
        commit = drafted.commit
        self.take(
            Stored(
                subject=self.subject,
                sequence=sequence,
                stored_at=commit.time,  # not told by an acknowledgement, and no fold depends on it
                commit=commit,
                size=len(drafted.data),
            )
        )
        for key in drafted.refusals:
            self._refusals.written(key, at=commit.time)
        self.counts["commits"] += 1
        self.counts["events"] += len(commit.events)
        self._batch = []
        self._answer(drafted.waiting, sequence)

    def _answer(self, outcomes: Sequence[Outcome], sequence: int) -> None:
        for outcome in outcomes:
            if outcome.known is not None:
                self._refusals.came(outcome.known)
                self.counts["refusals-coalesced"] += 1
            self.counts["refused" if isinstance(outcome.answer, Refused) else "answered"] += 1
            outcome.asked.answer(outcome.answer, sequence)

    def _fail(self, error: LogError) -> None:
        self.counts[error.why] += len(self._batch)
        for asked in self._batch:
            asked.fail(error)
        self._batch = []

    async def _fold_what_was_missed(self, expected: int) -> None:
        """Wait until the fold is past `expected`; LogForked if the log has nothing there."""
        try:
            async with asyncio.timeout(FOLLOW_PATIENCE):
                while self.fold.sequence == expected:
                    self._folded.clear()
                    await self._folded.wait()
        except TimeoutError:
            pass
        deadline = asyncio.get_running_loop().time() + CATCH_UP_PATIENCE
        pause = FIRST_PAUSE
        while self.fold.sequence == expected:
            try:
                await self.catch_up()
            except Unavailable as error:
                self._fail(error)
                return
            if self.fold.sequence != expected:
                return
            if asyncio.get_running_loop().time() > deadline:
                raise LogForked(f"{self.subject}: the log refuses a commit after {expected}, and has none there")
            await asyncio.sleep(pause)  # one of three replicas may be late to show it
            pause = min(2 * pause, LONGEST_PAUSE)
