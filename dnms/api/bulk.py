"""Many nodes entered together: all of them, or none.

What is wrong with any of them is found before the log is asked for anything, so that a mistake enters nobody. Nodes
lie on as many subjects as there are shards, and a commit is one message on one subject. Hence those of a shard are
one commit, and who is interrupted between two of them asks for the same again, which enters the rest.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from http import HTTPStatus
from typing import Annotated, Any

import msgspec
from litestar import Request, Response, post

from dnms.api import answers
from dnms.api.addresses import TheLedgers
from dnms.api.answers import BulkAnswer, BulkRow
from dnms.api.bodies import Body, body_of
from dnms.api.description import BODY
from dnms.api.inventory import Enter, complete, entry_of
from dnms.api.ledgers import Ledgers
from dnms.api.plan import Plans
from dnms.api.problems import Place, Problem
from dnms.api.questions import TheViews
from dnms.bus.append import PATIENCE
from dnms.bus.committer import Committer
from dnms.domain.aggregate import Refused
from dnms.domain.nodes import NodeShard
from dnms.domain.plan import PlanState
from dnms.events.requests import EnterNode

MAX_NODES = 1_000
"""In one request: what a committer decides at once, and a few seconds of choosing addresses."""

Shard = tuple[Committer[NodeShard], list[EnterNode]]
"""Whom a shard is asked to enter."""

AT_ONCE = 32
"""Nodes for which addresses are chosen at the same time: what comes together goes into the log together."""


class EnterMany(Body, frozen=True, kw_only=True):
    """Nodes that are to come."""

    nodes: Annotated[list[Enter], msgspec.Meta(min_length=1, max_length=MAX_NODES)]


@post("/bulk/nodes", status_code=HTTPStatus.OK, opt={BODY: EnterMany})
async def enter_many(
    request: Request[Any, Any, Any], plans: Plans, views: TheViews, ledgers: TheLedgers
) -> Response[BulkAnswer]:
    """Enter many nodes, or none if anything is wrong with one of them; 400 or 409 then name the place of each.

    One that is entered and has no address somewhere is not `ready`, and says why. The same again changes nothing.
    """
    wanted = (await body_of(request, EnterMany)).nodes
    # Sealed as a shard has them, since what it has is compared here too.
    asked = await ledgers.keys.seal(_entries(wanted, plans.fold.state, ledgers), patience=PATIENCE)
    shards = await _shards(asked, ledgers)
    _decide(asked, shards, ledgers)
    places = {each.client: f"$.nodes[{number}]" for number, each in enumerate(asked)}
    refused: list[Place] = []

    async def enter(shard: Committer[NodeShard], requests: list[EnterNode]) -> None:
        for each, outcome in zip(requests, await shard.submit_all(requests), strict=True):
            if isinstance(outcome, Refused):
                refused.append(Place(places[each.client], str(outcome)))
            elif isinstance(outcome, BaseException):
                raise outcome

    await asyncio.gather(*(enter(*one) for one in shards))
    if refused:
        raise Problem(
            HTTPStatus.CONFLICT,
            "entered-otherwise",
            "somebody else entered some of them meanwhile; the others are entered: ask again without those",
            refused,
        )
    room = asyncio.Semaphore(AT_ONCE)

    async def ready(node: Enter, entry: EnterNode) -> BulkRow:
        client = entry.client.hex()
        async with room:
            try:
                kept = await complete(entry.client, plans, ledgers)
            except Problem as problem:
                return BulkRow(client=client, name=node.name, ready=False, addresses=[], detail=problem.detail)
        return BulkRow(client=client, name=node.name, ready=True, addresses=kept)

    rows = await asyncio.gather(*(ready(*one) for one in zip(wanted, asked, strict=True)))
    position = max(shard.fold.sequence for shard, _ in shards)
    found = BulkAnswer(position=position, folded=await answers.folded(views, position), nodes=rows)
    return answers.answer(found, position)


def _entries(wanted: list[Enter], plan: PlanState, ledgers: Ledgers) -> list[EnterNode]:
    """What is asked for each; Problem with every place that is wrong."""
    found: list[EnterNode] = []
    wrong: list[Place] = []
    first: dict[bytes, int] = {}
    for number, node in enumerate(wanted):
        try:
            entry = entry_of(node, plan, ledgers)
        except Problem as problem:
            wrong += [Place(f"$.nodes[{number}].{each.path}", each.detail) for each in problem.errors]
            continue
        if (before := first.setdefault(entry.client, number)) != number:
            wrong.append(Place(f"$.nodes[{number}]", f"it is the same machine as $.nodes[{before}]"))
        found.append(entry)
    if wrong:
        raise Problem(HTTPStatus.BAD_REQUEST, "invalid-parameter", _nobody(wrong), wrong)
    return found


async def _shards(asked: list[EnterNode], ledgers: Ledgers) -> list[Shard]:
    """What is asked of each shard, which is folded to its end once."""
    grouped: dict[bytes, list[EnterNode]] = defaultdict(list)
    for each in asked:
        grouped[each.client[:1]].append(each)
    return [(await ledgers.shard(some[0].client), some) for some in grouped.values()]


def _decide(asked: list[EnterNode], shards: list[Shard], ledgers: Ledgers) -> None:
    """Refuse all of it for what would be refused of it. Problem."""
    states = {each.client: shard.fold.state for shard, some in shards for each in some}
    wrong: list[Place] = []
    for number, each in enumerate(asked):
        try:
            states[each.client].decide(each, at=ledgers.now(), entropy=bytes(each.ENTROPY))
        except Refused as refused:
            wrong.append(Place(f"$.nodes[{number}]", str(refused)))
    if wrong:
        raise Problem(HTTPStatus.CONFLICT, "entered-otherwise", _nobody(wrong), wrong)


def _nobody(wrong: list[Place]) -> str:
    return f"nobody is entered, since something is wrong with {len(wrong)}: {wrong[0].path}: {wrong[0].detail}"


HANDLERS = (enter_many,)
