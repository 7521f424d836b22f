"""Machines with several identities: an operator says that two nodes are one, or that they are not.

Joining is a saga like entering: what is kept moves ledger by ledger, and whom it moves from is joined last, so that who
is interrupted can ask again by the same names.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from litestar import Request, Response, delete, post
from litestar.params import FromPath

from dnms.api import answers
from dnms.api.addresses import TheLedgers
from dnms.api.answers import IdentityAnswer
from dnms.api.bodies import Body, body_of, client_of
from dnms.api.description import BODY
from dnms.api.inventory import complete
from dnms.api.ledgers import Ledgers
from dnms.api.plan import Plans
from dnms.api.problems import NotThere, Problem
from dnms.api.questions import TheViews
from dnms.domain.aggregate import Refused
from dnms.domain.identity import INTERFACE, iaid_of
from dnms.domain.nodes import Node, as_entered
from dnms.events.address import AddressHeld
from dnms.events.ip import format_address
from dnms.events.node import NodeEntered
from dnms.events.requests import CompleteNode, JoinAddresses, JoinNode, PartNode
from dnms.projections.nodes import queries as nodes


class Join(Body, frozen=True, kw_only=True):
    """What is to be this node too."""

    other: str  # a node, by its name, its client id or its DUID
    interface: str = INTERFACE  # of this node: for it is kept what was kept for an entry by a hardware address


@post("/nodes/{node:str}/identities", status_code=HTTPStatus.OK, opt={BODY: Join})
async def join(
    request: Request[Any, Any, Any], node: FromPath[str], plans: Plans, views: TheViews, ledgers: TheLedgers
) -> Response[IdentityAnswer]:
    """Have another node be this one too: what is kept for that one is kept for this one.

    409 if that one has an open session, or nobody knows one of the two.
    """
    wanted = await body_of(request, Join)
    into, other = await client_of(views, ledgers, node), await client_of(views, ledgers, wanted.other)
    if into == other:
        raise Refused("not-joined", "both are this node already")
    async with views.read() as reading:
        if any(session.open for session in await nodes.sessions(reading.db, other)):
            text = "the other node has an open session, so it is another machine; if it is not, stop its agent first"
            raise Problem(HTTPStatus.CONFLICT, "node-here", text)
        identities = [*await nodes.joined_into(reading.db, other), other]
    interface = iaid_of(wanted.interface)
    await _enter(into, await _known(into, ledgers), await _known(other, ledgers), interface, ledgers)
    moved: list[str] = []
    position = 0
    for identity in identities:
        by_hardware = (await _known(identity, ledgers)).iaid_by_hardware
        for subnet in sorted(plans.fold.state.subnets):
            ledger = await ledgers.current(subnet, plans.fold.state)
            for iaid in {iaid for whose, iaid in ledger.fold.state.held.values() if whose == identity}:
                into_iaid = interface if iaid == by_hardware else iaid
                events = await ledger.submit(JoinAddresses(client=identity, iaid=iaid, into=into, into_iaid=into_iaid))
                moved += [format_address(event.address) for event in events if isinstance(event, AddressHeld)]
        shard = await ledgers.shard(identity)
        await shard.submit(JoinNode(client=identity, into=into))
        position = max(position, shard.fold.sequence)
    found = IdentityAnswer(
        position=position,
        folded=await answers.folded(views, position),
        client=into.hex(),
        other=other.hex(),
        moved=moved,
    )
    return answers.answer(found, position)


@delete("/nodes/{node:str}/identities/{identity:str}", status_code=HTTPStatus.OK)
async def part(
    node: FromPath[str], identity: FromPath[str], plans: Plans, views: TheViews, ledgers: TheLedgers
) -> Response[IdentityAnswer]:
    """Have one of a node's identities, by its client id or the beginning of that, be a node of its own again.

    What was kept for it stays with the node. An entry by a hardware address waits for its machine again, and other
    addresses are kept for it; 409 if there is none for it somewhere, and then it is parted, entered, and not ready.
    """
    client = await client_of(views, ledgers, node)
    async with views.read() as reading:
        joined = await nodes.joined_into(reading.db, client)
    found = [each for each in joined if each.hex().startswith(identity.lower())]
    if len(found) != 1 or len(identity) < nodes.SHORT:
        known = ", ".join(each.hex() for each in joined) or "none"
        raise NotThere(f"no identity of that node has the client id {identity!r}; it has {known}")
    shard = await ledgers.shard(found[0])
    events = await shard.submit(PartNode(client=found[0]))
    waits = any(isinstance(event, NodeEntered) for event in events)
    kept = await complete(found[0], plans, ledgers) if waits else []
    position = shard.fold.sequence
    parted = IdentityAnswer(
        position=position,
        folded=await answers.folded(views, position),
        client=client.hex(),
        other=found[0].hex(),
        moved=[],
        kept=kept,
    )
    return answers.answer(parted, position)


async def _known(client: bytes, ledgers: Ledgers) -> Node:
    """Refused `not-known`."""
    known = await ledgers.node(client)
    if known is None:
        raise Refused("not-known", f"no node {client.hex()} was entered, or has said who it is")
    return known


async def _enter(into: bytes, known: Node, other: Node, interface: int, ledgers: Ledgers) -> None:
    """A node that nobody has entered is entered as the other one was."""
    if other.entered is None or known.entered is not None or known.identity is None:
        return
    iaid = interface if other.iaid_by_hardware is not None else other.entered.iaid
    shard = await ledgers.shard(into)
    await shard.submit(as_entered(other.entered, into, known.identity.duid, iaid))
    if other.ready:
        await shard.submit(CompleteNode(client=into))


HANDLERS = (join, part)
