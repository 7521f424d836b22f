"""A log folded again, an event at a time, and what this release decides about what was asked then.

Only states are held, so memory follows what the log leaves behind and not how long it is.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

import msgspec

from dnms.domain.aggregate import Refused, State
from dnms.domain.ledger import Ledger
from dnms.domain.nodes import NodeShard
from dnms.domain.plan import PlanState
from dnms.events import subjects
from dnms.events.commit import Decision, Stored
from dnms.events.recorded import Event


class Unfoldable(Exception):
    """This release cannot fold an event that is in the log: a defect, of who wrote it or of this release."""


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What a decision came to, as it is recorded or as it is decided now."""

    plan: int  # position of the plan that it was decided by
    events: tuple[Event, ...] = ()
    refused: str | None = None  # with this stable word
    failed: str | None = None  # this release comes to no decision, and why


class Divergence(msgspec.Struct, frozen=True, kw_only=True):
    """A decision that comes out otherwise than it is recorded."""

    stored: Stored
    index: int  # which of the commit's decisions
    recorded: Outcome
    decided: Outcome

    @property
    def decision(self) -> Decision:
        """What was asked, with what its decision was given."""
        return self.stored.commit.decisions[self.index]


class Replay:
    """The plan, the nodes and the ledgers of one site, up to some place in its log."""

    def __init__(self, site: str, secret: bytes) -> None:
        """`secret` is the site's, 32 bytes: it keys the hash strategy."""
        self._secret = secret
        self.plan_subject = subjects.plan(site)
        self._shards_begin = subjects.nodes(site).rstrip("*")
        self._ledgers_begin = subjects.ledger(site, "")
        self.plan = PlanState(site)
        self.shards: dict[str, NodeShard] = {}  # by subject
        self.ledgers: dict[str, Ledger] = {}

    def state(self, subject: str) -> State | None:
        """The fold of one subject; None of those on which nothing is decided."""
        if subject.startswith(self._ledgers_begin):
            if subject not in self.ledgers:
                self.ledgers[subject] = Ledger(self._secret)
            return cast("State", self.ledgers[subject])
        if subject.startswith(self._shards_begin):
            if subject not in self.shards:
                self.shards[subject] = NodeShard()
            return cast("State", self.shards[subject])
        return cast("State", self.plan) if subject == self.plan_subject else None

    def evolve(self, stored: Stored, event: Event) -> None:
        """Take in one of a commit's events, after those before it. Unfoldable."""
        state = self.state(stored.subject)
        if state is not None:
            _evolve(state, stored, event, position=stored.sequence)

    def take(self, stored: Stored) -> None:
        """Take in all of a commit. Unfoldable."""
        for event in stored.commit.events:
            self.evolve(stored, event)

    def divergences(self, stored: Stored) -> Iterator[Divergence]:
        """Where this release decides otherwise than a commit says, on the state before it. Unfoldable.

        Every decision is given what is recorded, and the recorded outcomes of those before it: so one that differs is
        one line, and does not make those differ that come after it.
        """
        state, commit = self.state(stored.subject), stored.commit
        if state is None or not commit.decisions:
            return
        draft = state.draft()
        for index, decision in enumerate(commit.decisions):
            events = commit.events[decision.first : decision.first + decision.count]
            recorded = Outcome(plan=commit.plan, events=events, refused=decision.refused)
            decided = _decide(draft, decision, plan=state.plan_position)
            if decided != recorded:
                yield Divergence(stored=stored, index=index, recorded=recorded, decided=decided)
            if index + 1 < len(commit.decisions):
                for event in events:
                    _evolve(draft, stored, event, position=0)


def _decide(draft: State, decision: Decision, *, plan: int) -> Outcome:
    wanted = draft.entropy(decision.request)
    if wanted > len(decision.entropy):
        return Outcome(plan=plan, failed=f"wants {wanted} random bytes, and {len(decision.entropy)} are recorded")
    try:
        return Outcome(plan=plan, events=draft.decide(decision.request, at=decision.at, entropy=decision.entropy))
    except Refused as refusal:
        return Outcome(plan=plan, refused=refusal.why)
    except Exception as error:  # which is what is looked for here
        return Outcome(plan=plan, failed=f"fails with {error!r}")


def _evolve(state: State, stored: Stored, event: Event, *, position: int) -> None:
    try:
        state.evolve(event, at=stored.commit.time, position=position)
    except Exception as error:
        raise Unfoldable(
            f"{stored.subject}: this release cannot fold {event.NAME} of the commit at {stored.sequence}: {error!r}"
        ) from error
