"""The plan: what it is, and a new one. The domain decides whether that may be."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

import msgspec
from litestar import Request, Response, get, post
from litestar.di import NamedDependency
from litestar.params import SkipValidation

from dnms.api import answers, problems
from dnms.api.answers import AppliedAnswer, PlanAnswer
from dnms.api.problems import NotThere, Problem
from dnms.api.questions import TheViews
from dnms.bus.committer import Committer
from dnms.domain.document import DocumentError, from_builtins, to_builtins
from dnms.domain.plan import PlanState
from dnms.projections.files import ViewsError
from dnms.projections.text import plain
from dnms.projections.views import Views

FOLD_PATIENCE = 2.0  # seconds for the views to have what was applied, so that who applied it sees it

Plans = NamedDependency[SkipValidation[Committer[PlanState]]]


@get("/plan")
async def show(plans: Plans) -> Response[PlanAnswer]:
    """The plan, as the document that would lead to it."""
    state = plans.fold.state
    if not state.site:
        raise NotThere("there is no plan yet; `dnms plan apply FILE`")
    position = state.position
    return answers.answer(PlanAnswer(position=position, plan=to_builtins(state.document())), position)


@post("/plan", status_code=HTTPStatus.OK)
async def apply(request: Request[Any, Any, Any], plans: Plans, views: TheViews) -> Response[AppliedAnswer]:
    """Want exactly this plan. 422 with every place if it is none, 409 if it cannot be now."""
    try:
        wanted = from_builtins(_document(await request.body()))
    except DocumentError as error:
        raise problems.of_document(error) from None
    events = await plans.submit(wanted)
    position = plans.fold.state.position  # its own: what was refused is on its subject too
    found = AppliedAnswer(
        position=position,
        folded=await _folded(views, position),
        events=[{"name": event.NAME, "fields": plain(event)} for event in events],
    )
    return answers.answer(found, position)


def _document(body: bytes) -> Any:
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError) as error:
        raise Problem(HTTPStatus.BAD_REQUEST, "not-json", f"expected a plan in JSON: {error}") from None


async def _folded(views: Views, position: int) -> bool:
    try:
        return await views.reached(position, within=FOLD_PATIENCE)
    except ViewsError:
        return False  # the plan is in the log all the same


HANDLERS = (show, apply)
