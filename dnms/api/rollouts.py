"""Rollouts: how far they are, and what operators want of them."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any, Literal

from litestar import Request, Response, get, post
from litestar.params import FromPath

from dnms.api import answers
from dnms.api.addresses import TheLedgers
from dnms.api.answers import Page, SteeredAnswer
from dnms.api.bodies import Body, body_of
from dnms.api.description import BODY
from dnms.api.plan import Plans
from dnms.api.problems import NotThere
from dnms.api.questions import At, AtSequence, TheViews, moment
from dnms.events.requests import SteerRollout
from dnms.projections.rollouts import queries
from dnms.projections.rollouts.queries import RolloutRow


class Steer(Body, frozen=True, kw_only=True):
    """What an operator wants of a rollout."""

    to: Literal["pause", "resume", "abort"]


@get("/rollouts")
async def listed(views: TheViews, at: At = None, at_sequence: AtSequence = None) -> Response[Page[RolloutRow]]:
    """The newest rollout of each subnet that ever had one."""
    async with views.read(moment(at, at_sequence)) as reading:
        return answers.page(reading, await queries.rollouts(reading.db))


@post("/rollouts/{subnet:str}", status_code=HTTPStatus.OK, opt={BODY: Steer})
async def steer(
    request: Request[Any, Any, Any], plans: Plans, views: TheViews, ledgers: TheLedgers, subnet: FromPath[str]
) -> Response[SteeredAnswer]:
    """Let a rollout wait, go on, or be undone. 409 where there is none, or it is so already."""
    wanted = await body_of(request, Steer)
    if subnet not in plans.fold.state.subnets:
        raise NotThere(f"there is no subnet {subnet!r}")
    ledger = await ledgers.folded(subnet)
    events = await ledger.submit(SteerRollout(to=wanted.to))
    position = ledger.fold.sequence
    found = SteeredAnswer(
        position=position,
        folded=await answers.folded(views, position),
        subnet=subnet,
        events=[event.NAME for event in events],
    )
    return answers.answer(found, position)


HANDLERS = (listed, steer)
