"""The plan: what it is, and a new one. The domain decides whether that may be."""

from __future__ import annotations

import asyncio
import contextlib
import re
from contextlib import aclosing
from http import HTTPStatus
from typing import Any

import msgspec
from litestar import Request, Response, get, post
from litestar.di import NamedDependency
from litestar.params import SkipValidation

from dnms.api import answers, bodies, problems
from dnms.api.answers import AppliedAnswer, DiffAnswer, PlanAnswer
from dnms.api.description import BODY, PLAN
from dnms.api.ledgers import Ledgers
from dnms.api.problems import Invalid, NotThere, Problem
from dnms.api.questions import At, AtSequence, TheLog, TheViews, moment
from dnms.bus.committer import Committer
from dnms.bus.port import Log
from dnms.bus.reading import read
from dnms.domain import ledger_dump
from dnms.domain.aggregate import Fold
from dnms.domain.assignment import group_of
from dnms.domain.document import DocumentError, client_in_hex, from_builtins, to_builtins
from dnms.domain.forecast import SubnetForecast, foresee
from dnms.domain.ledger import Ledger
from dnms.domain.plan import PlanState, says_the_same
from dnms.domain.plan_difference import differences
from dnms.events import subjects
from dnms.events.requests import ApplyPlan
from dnms.projections.nodes import queries as nodes
from dnms.projections.text import plain
from dnms.projections.views import Views

Plans = NamedDependency[SkipValidation[Committer[PlanState]]]
TheLedgers = NamedDependency[SkipValidation[Ledgers]]

_TAG = re.compile(r'"(\d{1,15})"')


@get("/plan")
async def show(
    plans: Plans, views: TheViews, log: TheLog, at: At = None, at_sequence: AtSequence = None
) -> Response[PlanAnswer]:
    """The plan, as the document that would lead to it; one of the past has no tag."""
    past = moment(at, at_sequence)
    if past is None:
        state = plans.fold.state
        if not state.site:
            raise NotThere("there is no plan yet; `dnms plan apply FILE`")
    else:
        async with views.read(past) as reading:
            position = reading.position
        state = await _as_of(log, position.site, position.sequence)
        if not state.site:
            raise NotThere("there was no plan yet by then")
    found = PlanAnswer(position=state.position, plan=to_builtins(state.document()))
    return answers.answer(found, state.position, etag=past is None)


async def _as_of(log: Log, site: str, sequence: int) -> PlanState:
    """The plan by its own commits up to a sequence, which are few."""
    fold = Fold(PlanState())
    async with aclosing(read(log, [subjects.plan(site)])) as batches:
        async for batch in batches:
            for stored in batch.stored:
                if stored.sequence > sequence:
                    return fold.state
                fold.take(stored)
            if batch.caught_up:
                break
    return fold.state


@post("/plan", status_code=HTTPStatus.OK, opt={BODY: PLAN})
async def apply(
    request: Request[Any, Any, Any], plans: Plans, views: TheViews, ledgers: TheLedgers
) -> Response[AppliedAnswer]:
    """Want exactly this plan. 422 with every place if it is none, 409 if it cannot be now.

    With `If-Match` (RFC 9110, 13.1.1) and the tag of `/plan` or `/plan/diff` it is refused, with 412, if the plan has
    changed since. Without it, whatever the plan was is replaced.
    """
    wanted = await _wanted(request, views, ledgers)
    tag = request.headers.get("if-match", "*").strip()
    if tag != "*":
        matched = _TAG.fullmatch(tag)
        if matched is None:
            raise Invalid("If-Match", 'expected the tag of a plan, such as "12"')
        wanted = msgspec.structs.replace(wanted, based_on=int(matched[1]))
    events = await plans.submit(wanted)
    position = plans.fold.state.position  # its own: what was refused is on its subject too
    found = AppliedAnswer(
        position=position,
        folded=await answers.folded(views, position),
        events=[{"name": event.NAME, "fields": plain(event)} for event in events],
    )
    return answers.answer(found, position, etag=True)


@post("/plan/diff", status_code=HTTPStatus.OK, opt={BODY: PLAN})
async def diff(
    request: Request[Any, Any, Any], plans: Plans, views: TheViews, ledgers: TheLedgers
) -> Response[DiffAnswer]:
    """What this plan would change, and what it would do to the leases that there are. Changes nothing.

    422 with every place if it is none.
    """
    wanted = await _wanted(request, views, ledgers)
    now, events = plans.fold.state, plans.fold.state.decide(wanted, at=ledgers.now(), entropy=bytes(wanted.ENTROPY))
    before = PlanState()  # no draft, since the plan may change before this is done
    before.load(now.document(), now.position)
    after = before.draft()
    for event in events:
        after.evolve(event, at=ledgers.now(), position=0)
    after.position += 1
    groups = {} if before.groups == after.groups else await _regrouped(views, before, after)
    subnets = sorted({*before.subnets, *after.subnets})
    found = DiffAnswer(
        position=before.position,
        changes=list(differences(before.document(), wanted)),
        subnets=[
            await _foreseen(ledgers, name, before, after, groups)
            for name in subnets
            if groups or not says_the_same(before.for_subnet(name), after.for_subnet(name))
        ],
    )
    return answers.answer(found, found.position, etag=True)


async def _foreseen(
    ledgers: Ledgers, subnet: str, before: PlanState, after: PlanState, groups: dict[bytes, int]
) -> SubnetForecast:
    """Worked out in a thread: of a million leases it takes ten seconds, in which others have to be answered.

    It has a copy of the ledger, as that goes on meanwhile. One at a time, since a copy is as large as the ledger.
    """
    adopted, wanted = before.for_subnet(subnet), after.for_subnet(subnet)
    async with ledgers.copying:
        ledger = (await ledgers.folded(subnet)).fold.state
        copied = ledger_dump.dump(ledger)

        def foreseen() -> SubnetForecast:
            copy = Ledger(ledger.secret)
            ledger_dump.load(copy, copied[0], memoryview(b"".join(copied[1])))
            return foresee(copy, subnet, adopted, wanted, groups=groups, at=now)

        now = ledgers.now()
        return await asyncio.to_thread(foreseen)


async def _regrouped(views: Views, before: PlanState, after: PlanState) -> dict[bytes, int]:
    """The numbers of the groups of the nodes that come into another one."""
    async with views.read() as reading:
        identities = await nodes.identities(reading.db)

    def regrouped() -> dict[bytes, int]:
        found: dict[bytes, int] = {}
        for known in identities:
            was, will = (
                group_of(plan, known.name, duid=known.duid, hardware=known.hardware, entered=known.entered_group)
                for plan in (before, after)
            )
            if was != will:
                found[known.client] = will
        return found

    return await asyncio.to_thread(regrouped)


async def _wanted(request: Request[Any, Any, Any], views: Views, ledgers: Ledgers) -> ApplyPlan:
    document = _document(await request.body())
    named: set[str] = set()  # whom it names, if it is a plan

    def note(who: str) -> bytes:
        named.add(who)
        return bytes(16)

    def client_of(who: str) -> bytes:
        found = clients[who]
        if isinstance(found, Problem):
            raise ValueError(found.detail)  # it is what the document says that is wrong
        return found

    try:
        from_builtins(document, client_of=note)
        clients = {who: await _client(views, ledgers, who) for who in sorted(named)}
        return from_builtins(document, client_of=client_of)
    except DocumentError as error:
        raise problems.of_document(error) from None


async def _client(views: Views, ledgers: Ledgers, who: str) -> bytes | Problem:
    """The client that is named, in any way in which one can be; or why nobody is."""
    with contextlib.suppress(ValueError):
        return client_in_hex(who)  # nobody need have seen it
    try:
        return await bodies.client_of(views, ledgers, who)
    except Problem as problem:
        return problem


def _document(body: bytes) -> Any:
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError) as error:
        raise Problem(HTTPStatus.BAD_REQUEST, "not-json", f"expected a plan in JSON: {error}") from None


HANDLERS = (show, apply, diff)
