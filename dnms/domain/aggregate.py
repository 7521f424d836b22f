"""The shape of a consistency boundary: a state that is a fold of one subject, and settles requests in commits.

`decide` answers or refuses and changes nothing; `evolve` never refuses. Several requests are settled in one commit:
each is decided on a draft to which the outcomes before it were applied, since the log may yet refuse the commit.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Generic, Protocol, TypeVar

import msgspec

from dnms.events.commit import MAX_EVENTS, Commit, Decision, Stored
from dnms.events.recorded import Event, Request


class Refused(Exception):
    """A request that cannot be granted: a stable word that is recorded and counted, and a text for people."""

    def __init__(self, why: str, text: str = "") -> None:
        super().__init__(text or why)
        self.why = why
        self.text = text


class ChainBroken(Exception):
    """A commit does not follow the one that was folded before it: something is missing, and nothing may be skipped."""


S = TypeVar("S", bound="State")


class State(Protocol):
    """The fold of one subject."""

    @property
    def plan_position(self) -> int:
        """Position of the plan that it decides by; 0 where none is needed."""
        ...

    def entropy(self, request: Request) -> int:
        """How many random bytes a decision on it is to be given: `request.ENTROPY`, or none where it looks at none."""
        ...

    def decide(self, request: Request, *, at: int, entropy: bytes) -> tuple[Event, ...]:
        """The outcome of one request at the instant `at` (microseconds); Refused. Changes nothing that can be seen."""
        ...

    def evolve(self, event: Event, *, at: int, position: int) -> None:
        """Take in an event that happened at the instant `at`, in the commit at sequence `position` (0: in a draft)."""
        ...

    def draft(self: S) -> S:
        """A copy that may be thrown away, in constant time; evolving it leaves this one as it is."""
        ...


class Question(msgspec.Struct, frozen=True, gc=False):
    """A request with what is drawn for it: as many random bytes as `State.entropy` says."""

    request: Request
    entropy: bytes = b""
    times: int = 1  # how often it was asked and refused since that was last recorded


Answer = tuple[Event, ...] | Refused
"""The outcome of one question."""


def settle(
    state: State, questions: Sequence[Question], *, commit_id: bytes, at: int, predecessor: int, actor: str
) -> tuple[Commit, list[Answer]]:
    """Decide `questions` in their order, as one commit.

    Answers may be fewer than questions: a commit holds MAX_EVENTS, and after a new plan one may want random bytes.

    The same arguments give the same commit, byte for byte.
    """
    draft = state.draft()
    events: list[Event] = []
    decisions: list[Decision] = []
    answers: list[Answer] = []
    for question in questions:
        first, refused = len(events), None
        answer: Answer
        if draft.entropy(question.request) > len(question.entropy):
            break  # what was decided before it has changed how it is decided
        try:
            answer = draft.decide(question.request, at=at, entropy=question.entropy)
        except Refused as refusal:
            answer, refused = refusal, refusal.why
        else:
            if answers and first + len(answer) > MAX_EVENTS:
                break
            for event in answer:
                draft.evolve(event, at=at, position=0)
            events.extend(answer)
        answers.append(answer)
        if refused is None and len(events) == first:
            continue  # granted without an event: nothing happened that the log has to know
        decisions.append(
            Decision(
                request=question.request,
                at=at,
                entropy=question.entropy,
                first=first,
                count=len(events) - first,
                refused=refused,
                times=question.times,
            )
        )
    commit = Commit(
        id=commit_id,
        time=at,
        predecessor=predecessor,
        actor=actor,
        plan=state.plan_position,
        decisions=tuple(decisions),
        events=tuple(events),
    )
    return commit, answers


def resettle(state: State, commit: Commit) -> Commit:
    """Decide a commit's recorded requests again on the state before it: the same release gives the same commit."""
    questions = [Question(d.request, d.entropy, d.times) for d in commit.decisions]
    again, _ = settle(
        state,
        questions,
        commit_id=commit.id,
        at=commit.time,
        predecessor=commit.predecessor,
        actor=commit.actor,
    )
    return again


class Fold(Generic[S]):
    """A state with the position up to which it is folded."""

    def __init__(self, state: S) -> None:
        self.state = state
        self.sequence = 0  # of the newest commit on the subject
        self.time = 0  # of that commit

    def take(self, stored: Stored) -> bool:
        """Fold a commit; False if it is folded already. ChainBroken if it does not follow what was folded last."""
        if stored.sequence <= self.sequence:
            return False
        commit = stored.commit
        if commit.predecessor != self.sequence:
            raise ChainBroken(
                f"{stored.subject}: the commit at {stored.sequence} follows {commit.predecessor}, "
                f"but {self.sequence} was folded last; commits are missing"
            )
        self.evolve(commit.events, at=commit.time, position=stored.sequence)
        self.sequence, self.time = stored.sequence, commit.time
        return True

    def evolve(self, events: Sequence[Event], *, at: int, position: int) -> None:
        """Take in the events of one commit."""
        for event in events:
            self.state.evolve(event, at=at, position=position)
