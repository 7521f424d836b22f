"""Subscribers: what they did, and what operators ask of those that call."""

from __future__ import annotations

import re
from collections import defaultdict
from http import HTTPStatus
from typing import Any

from litestar import Request, Response, get, post
from litestar.params import FromPath, FromQuery

from dnms.api import answers
from dnms.api.addresses import TheLedgers
from dnms.api.answers import AskedAgainAnswer, Page
from dnms.api.bodies import Body, body_of
from dnms.api.description import BODY
from dnms.api.problems import Invalid, NotThere, Problem
from dnms.api.questions import At, AtSequence, TheViews, moment
from dnms.events.effect import MAX_CALLS, EffectAsked, Place
from dnms.projections.effects import queries
from dnms.projections.effects.queries import DeadRow, SubscriberRow

_POSITION = re.compile(r"(?:([^:]{1,64}):)?(\d{1,15})\.(\d{1,4})")


class Again(Body, frozen=True, kw_only=True):
    """Which dead letters are to be called for again."""

    instance: str | None = None  # of this one only
    positions: list[str] = []  # of events, as `/subscribers/dead` has them; none: all


@get("/subscribers")
async def subscribers(views: TheViews, at: At = None, at_sequence: AtSequence = None) -> Response[Page[SubscriberRow]]:
    """Who acts on the log: what each instance applied last, how long that took, and whether it fails."""
    async with views.read(moment(at, at_sequence)) as reading:
        return answers.page(reading, await queries.subscribers(reading.db))


@get("/subscribers/dead")
async def dead(
    views: TheViews,
    subscriber: FromQuery[str | None] = None,
    instance: FromQuery[str | None] = None,
    at: At = None,
    at_sequence: AtSequence = None,
) -> Response[Page[DeadRow]]:
    """Dead letters: events for which a subscriber has called in vain for a day, and calls no more."""
    async with views.read(moment(at, at_sequence)) as reading:
        found = await queries.dead_letters(reading.db, subscriber=subscriber, instance=instance)
        return answers.page(reading, found)


@post("/subscribers/{subscriber:str}/retry", status_code=HTTPStatus.OK, opt={BODY: Again})
async def retry(
    request: Request[Any, Any, Any], views: TheViews, ledgers: TheLedgers, subscriber: FromPath[str]
) -> Response[AskedAgainAnswer]:
    """Have dead letters called for again. The log says so, and the instance does it when it reads that.

    404 where nothing has this name, 409 if a letter that is named is none, or there is none at all.
    """
    wanted = await body_of(request, Again)
    async with views.read() as reading:
        ran = [
            row
            for row in await queries.subscribers(reading.db)
            if row.subscriber == subscriber and wanted.instance in (None, row.instance)
        ]
        letters = await queries.dead_letters(reading.db, subscriber=subscriber, instance=wanted.instance)
        log_id = reading.position.log_id
    if not ran:
        name = subscriber if wanted.instance is None else f"{subscriber}/{wanted.instance}"
        raise NotThere(f"no subscriber {name} ever ran for this site; `dnms subscriber list` has those that did")
    places = [_place(text, f"$.positions[{index}]", log_id) for index, text in enumerate(wanted.positions)]
    missing = sorted(set(places) - {letter.position for letter in letters}, key=places.index)
    if missing:
        text = f"the event at {missing[0]} is no dead letter of {subscriber}"
        raise Problem(HTTPStatus.CONFLICT, "not-dead", text)
    chosen = [letter for letter in letters if not places or letter.position in places]
    if not chosen:
        raise Problem(HTTPStatus.CONFLICT, "not-dead", f"{subscriber} has no dead letters")
    by_instance: defaultdict[str, list[DeadRow]] = defaultdict(list)
    for letter in chosen:
        by_instance[letter.instance].append(letter)
    position = 0
    for instance, its in by_instance.items():
        asked = await ledgers.asked(subscriber, instance)
        for first in range(0, len(its), MAX_CALLS):
            where = (letter.position.split(".") for letter in its[first : first + MAX_CALLS])
            events = [EffectAsked(places=tuple(Place(sequence=int(one), index=int(two)) for one, two in where))]
            position = await asked.observe(events)
    found = AskedAgainAnswer(
        position=position, folded=await answers.folded(views, position), subscriber=subscriber, letters=chosen
    )
    return answers.answer(found, position)


def _place(text: str, path: str, log_id: str) -> str:
    match = _POSITION.fullmatch(text)
    if match is None:
        raise Invalid(path, "expected the position of an event, such as 12.3")
    if match[1] not in (None, log_id):
        raise Invalid(path, f"{text} is in another log; this is {log_id}")
    return f"{int(match[2])}.{int(match[3])}"


HANDLERS = (subscribers, dead, retry)
