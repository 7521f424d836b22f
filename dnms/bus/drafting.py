"""What the next commit of a committer would be, and who may be answered before it is in the log. No I/O."""

from __future__ import annotations

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import Sequence

import msgspec

from dnms.domain.aggregate import Answer, Fold, Question, Refused, State, settle
from dnms.events import codec
from dnms.events.commit import MAX_EVENTS, Commit, Decision
from dnms.events.recorded import Event, Recorded, Request
from dnms.kit.clock import MICROSECONDS

MAX_REFUSALS = 1_024  # remembered; who invents new requests to be refused makes us forget, not grow
REFUSAL_PERIOD = 60 * MICROSECONDS  # in which the same refusal of the same request is written once


class Asked:
    """A question, or events that were seen, and who waits for what becomes of it: its events, and where they are."""

    __slots__ = ("answered", "clear", "observed", "question", "since")

    def __init__(self, question: Question | None, observed: tuple[Event, ...] = ()) -> None:
        self.question = question
        self.observed = observed
        self.clear: tuple[Recorded, ...] = observed if question is None else (question.request,)  # before it was sealed
        loop = asyncio.get_running_loop()
        self.since = loop.time()
        self.answered: asyncio.Future[tuple[tuple[Event, ...], int]] = loop.create_future()

    def answer(self, answer: Answer, sequence: int) -> None:
        """Tell who asked, unless it has gone."""
        if self.answered.done():
            return
        if isinstance(answer, Refused):
            self.answered.set_exception(answer)
        else:
            self.answered.set_result((answer, sequence))

    def fail(self, error: Exception) -> None:
        """Tell who asked that there is no answer, unless it has gone."""
        if not self.answered.done():
            self.answered.set_exception(error)


class _Refusal(msgspec.Struct):
    written_at: int
    since: int = 0  # how often it came since then


class Refusals:
    """Which refusals were written lately, so that repeating one does not grow the log."""

    def __init__(self) -> None:
        self._known: OrderedDict[bytes, _Refusal] = OrderedDict()

    @staticmethod
    def key(request: Request, why: str) -> bytes:
        """Stands for a request and the word that refuses it."""
        digest = hashlib.blake2b(why.encode() + b"\0" + request.NAME.encode() + b"\0", digest_size=16)
        digest.update(codec.encoder.encode(request))
        return digest.digest()

    def is_known(self, key: bytes, *, at: int) -> bool:
        """Whether it was written so lately that it need not be written again."""
        known = self._known.get(key)
        return known is not None and at - known.written_at < REFUSAL_PERIOD

    def since(self, key: bytes) -> int:
        """How often it came since it was written."""
        known = self._known.get(key)
        return known.since if known is not None else 0

    def came(self, key: bytes) -> None:
        """It came again, and was not written."""
        if key in self._known:
            self._known[key].since += 1

    def written(self, key: bytes, *, at: int) -> None:
        """It is in the log, with all that it stands for. The one that was written longest ago is forgotten."""
        self._known[key] = _Refusal(at)
        self._known.move_to_end(key)
        if len(self._known) > MAX_REFUSALS:
            self._known.popitem(last=False)


class Outcome(msgspec.Struct, frozen=True):
    """The answer that somebody is going to get."""

    asked: Asked
    answer: Answer
    known: bytes | None = None  # the key of a refusal that is counted and not written


class Draft(msgspec.Struct, frozen=True):
    """A commit that the log has not seen yet."""

    commit: Commit
    data: bytes  # empty if there is nothing to write
    free: list[Outcome]  # holds whatever becomes of the commit
    waiting: list[Outcome]
    refusals: list[bytes]  # the keys of those that are written
    rest: list[Asked]  # came later than what one commit holds


def draft(
    fold: Fold[State], batch: Sequence[Asked], *, refusals: Refusals, commit_id: bytes, at: int, actor: str
) -> Draft:
    """Decide a batch in its order. ValueError if it is too large for a commit; what a decision raises by mistake."""
    questions = [asked.question for asked in batch if asked.question is not None]
    commit, answers = settle(fold.state, questions, commit_id=commit_id, at=at, predecessor=fold.sequence, actor=actor)
    events = list(commit.events)
    answer = iter(answers)
    outcomes: list[Outcome] = []
    rest: list[Asked] = []
    for asked in batch:
        if asked.question is not None:
            decided = next(answer, None)
            if decided is None:
                rest.append(asked)
                continue
            known = None
            if isinstance(decided, Refused):
                key = refusals.key(asked.question.request, decided.why)
                known = key if refusals.is_known(key, at=at) else None
            outcomes.append(Outcome(asked, decided, known))
        elif len(events) + len(asked.observed) <= MAX_EVENTS:
            events.extend(asked.observed)
            outcomes.append(Outcome(asked, asked.observed))
        else:
            rest.append(asked)
    decisions, written = _coalesce(commit.decisions, refusals, at=at)
    commit = msgspec.structs.replace(commit, decisions=decisions, events=tuple(events))
    free, waiting = _part(outcomes)
    data = b""
    if decisions or events:
        # What the log holds is for ever, so nothing goes there that cannot be read again; and our fold takes what
        # everybody else's is going to take.
        data, commit = codec.encoded(commit)
    return Draft(commit, data, free, waiting, written, rest)


def _coalesce(
    decisions: Sequence[Decision], refusals: Refusals, *, at: int
) -> tuple[tuple[Decision, ...], list[bytes]]:
    """Leave out refusals that were written lately, and write the same one once, with how many it stands for.

    A refusal changes nothing, so the other decisions come out alike without it.
    """
    kept: list[Decision] = []
    places: dict[bytes, int] = {}
    for decision in decisions:
        if decision.refused is None:
            kept.append(decision)
            continue
        key = refusals.key(decision.request, decision.refused)
        if refusals.is_known(key, at=at):
            continue
        if key in places:
            first = kept[places[key]]
            kept[places[key]] = msgspec.structs.replace(first, times=first.times + 1)
        else:
            places[key] = len(kept)
            kept.append(msgspec.structs.replace(decision, times=1 + refusals.since(key)))
    return tuple(kept), list(places)


def _part(outcomes: Sequence[Outcome]) -> tuple[list[Outcome], list[Outcome]]:
    """Who can be answered at once, and who waits: for its own events, or since events came before it in the draft."""
    free: list[Outcome] = []
    waiting: list[Outcome] = []
    uncommitted = False
    for outcome in outcomes:
        refused = isinstance(outcome.answer, Refused)
        if not refused and outcome.answer:
            uncommitted = True
        needs_commit = uncommitted or (refused and outcome.known is None)
        (waiting if needs_commit else free).append(outcome)
    return free, waiting
