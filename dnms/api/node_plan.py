"""What would be done to a node: out of what it told last and what its ledger would assign, decided on a draft."""

from __future__ import annotations

import msgspec
from litestar import Response, get
from litestar.params import FromPath, FromQuery

from dnms.api import answers
from dnms.api.addresses import TheLedgers
from dnms.api.bodies import client_of
from dnms.api.plan import Plans
from dnms.api.problems import NotThere
from dnms.api.questions import TheViews
from dnms.domain.aggregate import Refused
from dnms.domain.assignment import assign, group_of
from dnms.domain.foreseen_node import Step, steps
from dnms.domain.identity import iaid_of
from dnms.domain.ledger import Ledger
from dnms.domain.strategies import ENTROPY
from dnms.events.configuration import Assignment, Link, Mode, Snapshot
from dnms.events.ip import parse_address
from dnms.events.plan import Family
from dnms.events.requests import AllocateAddress
from dnms.projections.nodes import queries as nodes

DEFAULTS = ("::", "0.0.0.0")


class NodePlanAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What would be done to a node on the link that it is on."""

    position: int  # of the plan that it is by
    node: str | None
    client: str  # hex
    subnet: str
    interface: str
    mode: Mode  # by which it is said
    refused: dict[str, str]  # "4" or "6" to why nothing of this family would be given
    steps: list[Step]


@get("/nodes/{node:str}/plan")
async def plan(
    views: TheViews,
    plans: Plans,
    ledgers: TheLedgers,
    node: FromPath[str],
    *,
    mode: FromQuery[Mode | None] = None,
    interface: FromQuery[str | None] = None,
) -> Response[NodePlanAnswer]:
    """What would be done to a node, by its policy or as if that had this `mode`; nothing is done.

    It is said of what the node told last, for the interface that it is managed on, or this one of its interfaces.
    """
    client = await client_of(views, ledgers, node)
    async with views.read() as reading:
        [row] = await nodes.find(reading.db, client.hex())
        snapshot = await nodes.told(reading.db, client)
    if snapshot is None or not row.subnet:
        raise NotThere(f"{node} has told no agent what it has yet")
    link = _link(snapshot, interface)
    if link is None:
        raise NotThere(f"{node} has no interface {interface!r}" if interface else f"{node} has no link that is up")
    state = plans.fold.state
    known = await ledgers.node(client)
    said = None if known is None else known.identity or known.entered
    group = 0
    if said is not None:
        octets = [value for each in said.hardware if isinstance(value := each.value, bytes)]
        duid = said.duid.value if isinstance(said.duid.value, bytes) else b""
        entered = known.entered.group if known is not None and known.entered is not None else ""
        group = group_of(state, said.name.text, duid=duid, hardware=octets, entered=entered)
    ledger = (await ledgers.current(row.subnet, state)).fold.state
    assignment, refused = _foreseen(ledger, client, iaid_of(link.name), group, ledgers.now())
    if mode is not None:
        policy = msgspec.structs.replace(assignment.policy, mode=mode)
        assignment = msgspec.structs.replace(assignment, policy=policy)
    found = NodePlanAnswer(
        position=state.position,
        node=row.name,
        client=client.hex(),
        subnet=row.subnet,
        interface=link.name,
        mode=assignment.policy.mode,
        refused=refused,
        steps=list(steps(snapshot, link.index, assignment)),
    )
    return answers.answer(found, state.position)


def _foreseen(ledger: Ledger, client: bytes, iaid: int, group: int, at: int) -> tuple[Assignment, dict[str, str]]:
    """What the ledger would assign, and why it would not."""
    draft, refused = ledger.draft(), dict[str, str]()
    kinds: tuple[Family, ...] = (6, 4)
    for kind in kinds:
        request = AllocateAddress(client=client, iaid=iaid, family=kind, group=group)
        try:
            for event in draft.decide(request, at=at, entropy=bytes(ENTROPY)[: ledger.entropy(request)]):
                draft.evolve(event, at=at, position=0)
        except Refused as refusal:
            refused[str(kind)] = refusal.why
    leases = [lease for kind in kinds for lease in draft.leases_of(client, iaid, kind)]
    return assign(draft, leases, client=client, group=group, at=at, epoch=0, position=0).assignment, refused


def _link(snapshot: Snapshot, interface: str | None) -> Link | None:
    """The one of this name; or that with addresses of ours, with a default route, or the first that is up."""
    if interface is not None:
        return next((link for link in snapshot.links if link.name == interface), None)
    ours = {each.interface for each in snapshot.addresses if each.origin == "managed"}
    unspecified = {parse_address(text) for text in DEFAULTS}
    routed = {each.interface for each in snapshot.routes if each.destination.network in unspecified}
    loopbacks = {each.interface for each in snapshot.addresses if each.origin == "loopback"}
    up = {link.index for link in snapshot.links if link.carrier} - loopbacks
    for wanted in (ours, routed, up):
        found = [link for link in snapshot.links if link.index in wanted]
        if found:
            return found[0]
    return None


HANDLERS = [plan]
