"""`dnms replay`: step through the log, or have this release decide again what was asked."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import msgspec
from cyclopts import Parameter, Token

from dnms.bus.port import Log
from dnms.cli import slicing
from dnms.cli.event import NOT_SHOWN, what
from dnms.cli.exits import NO, OK, USAGE, Failure
from dnms.cli.located import Bus, opened_log
from dnms.cli.options import SITE, SiteDirectory
from dnms.cli.rendering import Output, json_line, line, moment, say
from dnms.cli.times import parse_moment
from dnms.disk.extensions import load_strategies
from dnms.disk.site import Site
from dnms.domain.replay import Divergence, Outcome
from dnms.kit import logging
from dnms.projections.replay import reading
from dnms.projections.replay.condition import Condition, ConditionError
from dnms.projections.replay.reading import Selection, Step, Tally
from dnms.projections.replay.wanted import Bound, Only, parse_bound
from dnms.projections.text import instant, plain

MAX_LISTED = 8
PROMPT = "Enter: the next one, c: all the rest, q: quit "


def _bound(_: Any, tokens: list[Token]) -> Bound:
    text = tokens[0].value
    try:
        return parse_bound(text) or Bound(time=parse_moment(text))
    except ValueError:
        raise ValueError("expected a position such as 12 or 12.3, or a time such as 2026-03-01T12:00:00Z") from None


Place = Annotated[Bound, Parameter(converter=_bound)]


class DecidedOtherwise(msgspec.Struct, frozen=True, kw_only=True):
    """A divergence for programs."""

    sequence: int
    decision: int  # which of the commit's
    time: datetime
    subject: str
    actor: str
    asked: dict[str, Any]
    recorded: dict[str, Any]
    decided: dict[str, Any]


def replay(  # each is an option
    file: Annotated[
        Path | None, Parameter(help="A slice that `dnms log export --from` wrote. Without it: the site's log.")
    ] = None,
    /,
    *,
    first: Annotated[
        Place | None,
        Parameter(name="--from", help="Where to begin: a position such as 12 or 12.3, or a time in ISO 8601."),
    ] = None,
    last: Annotated[Place | None, Parameter(name="--to", help="Where to end, likewise; that is still shown.")] = None,
    only: Annotated[
        list[str] | None,
        Parameter(
            help="Only events of a kind (address.allocated, address), or about this: an address or prefix, a node by "
            "name or client id, a name of the plan. Several: only those that are all of it.",
            negative=(),
        ),
    ] = None,
    step: Annotated[bool, Parameter(help="Wait for Enter after each event.", negative=())] = False,
    until: Annotated[
        str | None,
        Parameter(
            help="Stop at the first event, from --from on, after which this is so: \"lease.address == '2001:db8::5'\". "
            "Exit code 1 if it never is.",
        ),
    ] = None,
    decide: Annotated[
        bool,
        Parameter(
            help="Decide again all that was asked, and print where this release decides otherwise. Exit code 1 if so.",
            negative=(),
        ),
    ] = False,
    site: SiteDirectory = SITE,
    bus: Bus = None,
    output: Output = "table",
) -> int:
    """Step through the log: each event, with what it is about before and after it."""
    logging.configure()
    if decide and (first or last or only or step or until):
        raise Failure(USAGE, "--decide looks at all of the log; it has no --from, --to, --only, --step and --until")
    if decide and file is not None:
        why = "what was known before it is not all there, and pseudonyms are not what was decided"
        raise Failure(USAGE, f"{file} is a slice: {why}; --decide takes a site's own log")
    try:
        condition = None if until is None else Condition(until, reading.NAMES)
    except ConditionError as error:
        raise Failure(USAGE, f"--until: {error}") from error
    selection = Selection(first=first or Bound(), last=last, only=tuple(map(Only, only or ())), until=condition)

    async def replayed() -> int:
        keys = Keys() if step else None
        if file is not None:
            try:
                return await _show(slicing.steps(file, selection), selection, keys, output)
            except FileNotFoundError as error:
                raise Failure(USAGE, f"{file}: {error.strerror}") from error
            except ConditionError as error:
                raise Failure(USAGE, f"--until: {error}") from error
        opened = Site.load(site)
        async with opened_log(opened, bus) as log:
            if decide:
                load_strategies()
                return await _decide(log, opened, output)
            try:
                found = reading.steps(log, opened.name, opened.secret, selection)
                return await _show(found, selection, keys, output)
            except ConditionError as error:
                raise Failure(USAGE, f"--until: {error}") from error

    return asyncio.run(replayed())


async def _show(found: AsyncGenerator[Step, None], selection: Selection, keys: Keys | None, output: Output) -> int:
    shown = 0
    asked: tuple[str, int] | None = None  # what was shown last: one decision can have many events
    async with aclosing(found) as steps:
        async for step in steps:
            shown += 1
            if output == "json":
                json_line(step)
            else:
                before, asked = asked, _asked(step)
                for text in _lines(step, again=asked is not None and asked == before):
                    line(text)
            if step.stopped:
                return OK
            if keys is not None and not await keys.go_on():
                return OK
    if selection.until is not None:
        say("the end is reached, and the condition never held")
        return NO
    if not shown:
        say("there is no such event")
        return NO
    return OK


async def _decide(log: Log, site: Site, output: Output) -> int:
    tally = Tally()
    async with aclosing(reading.decided(log, site.name, site.secret, tally)) as divergences:
        async for divergence in divergences:
            if output == "json":
                json_line(_otherwise(divergence))
            else:
                for text in _divergence_lines(divergence):
                    line(text)
    if output == "json":
        json_line(tally)
    else:
        alike = f"{tally.otherwise} of them otherwise" if tally.otherwise else "all of them alike"
        line(
            f"Decided {tally.decisions} requests again, in {tally.commits} commits up to position {tally.sequence}: "
            f"{alike}."
        )
    return NO if tally.otherwise else OK


# -- for people


def _asked(step: Step) -> tuple[str, int] | None:
    return None if step.decision is None else (step.position.partition(".")[0], step.decision)


def _lines(step: Step, *, again: bool) -> Iterator[str]:
    """A step as a difference: what was with a minus, what is with a plus, what stays with neither.

    With `again` what was asked stands above already.
    """
    where = step.subject.split(".", 2)[-1]
    node = f" {step.node}" if step.node else ""
    yield f"{step.position} {moment(step.time)} {where} {step.actor}{node} {step.name} {what(step.fields)}".rstrip()
    if step.asked is not None and not again:
        yield f"    asked {_request(step.asked)}"
    for part, after in step.after.items():
        before = step.before.get(part)
        if before != after:
            yield f"  - {part} {_part(before)}"
            yield f"  + {part} {_part(after)}"
        elif after is not None:
            yield f"    {part} {_part(after)}"


def _divergence_lines(divergence: Divergence) -> Iterator[str]:
    stored = divergence.stored
    where = stored.subject.split(".", 2)[-1]
    request = _request(reading.asked(divergence.decision))
    yield f"{stored.sequence} {moment(instant(stored.commit.time))} {where} {stored.commit.actor} {request}"
    same_plan = divergence.recorded.plan == divergence.decided.plan
    for sign, outcome in (("-", divergence.recorded), ("+", divergence.decided)):
        if not same_plan:
            yield f"  {sign} by the plan of position {outcome.plan}"
        if outcome.refused is not None:
            yield f"  {sign} refused {outcome.refused}"
        elif outcome.failed is not None:
            yield f"  {sign} {outcome.failed}"
        elif not outcome.events:
            yield f"  {sign} granted, without an event"
        for event in outcome.events:
            yield f"  {sign} {event.NAME} {what(plain(event))}"


def _request(asked: dict[str, Any]) -> str:
    return f"{asked['request']} {what(_brief(asked), but=NOT_SHOWN | {'request'})}".rstrip()


def _part(part: dict[str, Any] | None) -> str:
    """What is empty says nothing."""
    if part is None:
        return "-"
    there = {name: value for name, value in part.items() if value not in (None, "", [], {})}
    return what(_brief(there), but=frozenset())


def _brief(values: dict[str, Any]) -> dict[str, Any]:
    """Long lists are counted: a plan can have thousands of pools, and a terminal has a few lines."""
    return {
        name: f"({len(value)} in all)" if isinstance(value, list | dict) and len(value) > MAX_LISTED else value
        for name, value in values.items()
    }


# -- for programs


def _otherwise(divergence: Divergence) -> DecidedOtherwise:
    stored = divergence.stored
    return DecidedOtherwise(
        sequence=stored.sequence,
        decision=divergence.index,
        time=instant(stored.commit.time),
        subject=stored.subject,
        actor=stored.commit.actor,
        asked=reading.asked(divergence.decision),
        recorded=_outcome(divergence.recorded),
        decided=_outcome(divergence.decided),
    )


def _outcome(outcome: Outcome) -> dict[str, Any]:
    return {
        "plan": outcome.plan,
        "events": [{"name": event.NAME, "fields": plain(event)} for event in outcome.events],
        "refused": outcome.refused,
        "failed": outcome.failed,
    }


class Keys:
    """Lines of stdin, waited for while the bus is kept alive. At the end of stdin it is over."""

    def __init__(self) -> None:
        self._came = b""
        self._waits = True

    async def go_on(self) -> bool:
        """Whether there is to be another one."""
        if not self._waits:
            return True
        if sys.stdin.isatty():
            print(PROMPT, end="", file=sys.stderr, flush=True)
        while b"\n" not in self._came:
            await _readable(sys.stdin.fileno())
            came = os.read(sys.stdin.fileno(), 4_096)
            if not came:
                return False
            self._came += came
        word, _, self._came = self._came.partition(b"\n")
        self._waits = word.strip().lower() != b"c"
        return word.strip().lower() != b"q"


async def _readable(descriptor: int) -> None:
    loop, ready = asyncio.get_running_loop(), asyncio.Event()
    try:
        loop.add_reader(descriptor, ready.set)
    except PermissionError:  # of a file, which never makes one wait
        return
    try:
        await ready.wait()
    finally:
        loop.remove_reader(descriptor)
