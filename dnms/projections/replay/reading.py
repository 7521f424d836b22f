"""The log of a site from its beginning to where it ends now, a step at a time or decided again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from datetime import datetime
from typing import Any

import msgspec

from dnms.bus.port import Log
from dnms.bus.reading import read, read_opened
from dnms.domain.replay import Divergence, Replay
from dnms.events.commit import Decision, Stored
from dnms.events.recorded import Event
from dnms.events.subjects import everything
from dnms.projections.projection import place
from dnms.projections.replay.condition import Condition
from dnms.projections.replay.states import EVENT_FIELDS, PARTS, Parts, States, fields
from dnms.projections.replay.wanted import Bound, Only, is_ahead, is_behind
from dnms.projections.text import instant, plain, position

SLICE = 0.01
"""Seconds of folding after which others have a turn. The bus wants an answer every few seconds, and asks behind all
that it has sent."""

NAMES: dict[str, frozenset[str] | None] = {
    **PARTS,
    "event": EVENT_FIELDS,
    "before": frozenset(PARTS),
    "position": None,
    "sequence": None,
    "index": None,
    "time": None,
    "subject": None,
    "actor": None,
}
"""What a condition can name. A part is as it is after the event, and in `before` as it was."""


class Selection(msgspec.Struct, frozen=True, kw_only=True):
    """Which part of the log is stepped through."""

    first: Bound = Bound()
    last: Bound | None = None  # None: the end of the log
    only: Sequence[Only] = ()  # an event is to be all of them
    until: Condition | None = None


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One event, with what it is about before and after it."""

    position: str
    time: datetime
    subject: str
    actor: str
    name: str
    node: str  # the name of the client's node, or empty
    fields: dict[str, Any]  # of the event
    decision: int | None  # which of the commit's it came of; None: of none, it was merely seen
    asked: dict[str, Any] | None  # the request of that: its name as `request`, and its fields
    before: Parts
    after: Parts
    stopped: bool = False  # the condition holds: this is the last one


class Tally(msgspec.Struct):
    """How much was decided again."""

    sequence: int = 0  # of the last commit
    commits: int = 0
    decisions: int = 0
    otherwise: int = 0


async def commits(log: Log, site: str, *, opened: bool = False) -> AsyncGenerator[Stored, None]:
    """All commits from the first to the last one that is there when it is called; what is wrong with the log is raised.

    With `opened`, what is personal in them is in clear, but for what is forgotten.

    Of a log that grows meanwhile the rest is left out, so that it ends. What is done with them may take its time: the
    loop has its turns, else the bus would count as lost.
    """
    end = await log.end()
    if not end:
        return
    loop = asyncio.get_running_loop()
    since = loop.time()
    async with aclosing((read_opened if opened else read)(log, [everything(site)])) as batches:
        async for batch in batches:
            for stored in batch.stored:
                yield stored
                if stored.sequence >= end:
                    return
                if loop.time() - since > SLICE:
                    await asyncio.sleep(0)
                    since = loop.time()


async def steps(log: Log, site: str, secret: bytes, selection: Selection) -> AsyncGenerator[Step, None]:
    """The events that are selected, in the log's order. With `until` the last one says whether it `stopped` there.

    Unfoldable, ConditionError, and what is wrong with the log.
    """
    async with aclosing(stepped(States(site, secret), commits(log, site, opened=True), selection)) as found:
        async for step in found:
            yield step


async def stepped(
    states: States, commits: AsyncGenerator[Stored, None], selection: Selection
) -> AsyncGenerator[Step, None]:
    """As `steps`, of commits that come after what `states` have taken in already."""
    async with aclosing(commits) as whole:
        async for stored in whole:
            for index, event in enumerate(stored.commit.events):
                if is_ahead(stored, index, selection.first):
                    states.evolve(stored, event)
                    continue
                if selection.last is not None and is_behind(stored, index, selection.last):
                    if selection.last.time is None:
                        return
                    states.evolve(stored, event)  # of a later subject there may yet be earlier ones
                    continue
                step = _step(states, stored, index, event, selection)
                if step is not None:
                    yield step
                    if step.stopped:
                        return


def _step(states: States, stored: Stored, index: int, event: Event, selection: Selection) -> Step | None:
    """Take in one event; None if nobody wants to see it."""
    wanted = _is_wanted(states, stored, event, selection)
    # By an event of a node it may first have the name that is asked for.
    if not wanted and selection.until is None and place(stored.subject).family != "node":
        states.evolve(stored, event)
        return None
    before = states.parts(stored, event)
    states.evolve(stored, event)
    after = states.parts(stored, event)
    stopped = selection.until is not None and selection.until.holds(
        lambda name: _known(name, states, stored, index, event, before, after)
    )
    if not (wanted or stopped or _is_wanted(states, stored, event, selection)):
        return None
    client, decision = getattr(event, "client", None), _decision_of(stored, index)
    return Step(
        position=position(stored.sequence, index),
        time=instant(stored.commit.time),
        subject=stored.subject,
        actor=stored.commit.actor,
        name=event.NAME,
        node="" if client is None else states.name(client),
        fields=plain(event),
        decision=decision,
        asked=None if decision is None else asked(stored.commit.decisions[decision]),
        before=before,
        after=after,
        stopped=stopped,
    )


def _is_wanted(states: States, stored: Stored, event: Event, selection: Selection) -> bool:
    return all(only.wants(stored, event, states) for only in selection.only)


def _known(  # noqa: PLR0911, PLR0917  # one name a line
    name: str, states: States, stored: Stored, index: int, event: Event, before: Parts, after: Parts
) -> Any:
    """What a name in a condition stands for."""
    match name:
        case "event":
            return {"name": event.NAME, **fields(event)}
        case "before":
            return before
        case "position":
            return position(stored.sequence, index)
        case "sequence":
            return stored.sequence
        case "index":
            return index
        case "time":
            return instant(stored.commit.time)
        case "subject":
            return stored.subject
        case "actor":
            return stored.commit.actor
        case "node" if "node" not in after and (client := getattr(event, "client", None)) is not None:
            return states.node(client)
    return after.get(name)


def asked(decision: Decision) -> dict[str, Any]:
    """A decision's request, as Step has it."""
    return {"request": decision.request.NAME, **plain(decision.request)}


def _decision_of(stored: Stored, index: int) -> int | None:
    """Which decision one of a commit's events came of."""
    for number, each in enumerate(stored.commit.decisions):
        if each.first <= index < each.first + each.count:
            return number
    return None


async def decided(log: Log, site: str, secret: bytes, tally: Tally) -> AsyncGenerator[Divergence, None]:
    """Where this release decides otherwise than the log says; `tally` is kept up meanwhile.

    Unfoldable, and what is wrong with the log.
    """
    replay = Replay(site, secret)
    async with aclosing(commits(log, site)) as whole:
        async for stored in whole:
            for divergence in replay.divergences(stored):
                tally.otherwise += 1
                await log.keys.learn((stored,))
                yield log.keys.open(divergence)
            replay.take(stored)
            tally.sequence = stored.sequence
            tally.commits += 1
            tally.decisions += len(stored.commit.decisions)
