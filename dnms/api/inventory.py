"""Nodes that an operator enters before they ever boot, and forgets when they are gone.

Entering is a saga over several subjects: the node is entered in its shard, its addresses are held in each ledger, and
then it is ready. It ends where it stopped when it is asked for again, or when the API starts: every step of it that
was done is found done.
"""

from __future__ import annotations

from contextlib import suppress
from http import HTTPStatus
from typing import Annotated, Any

import msgspec
import structlog
from litestar import Request, Response, delete, post
from litestar.params import FromPath, FromQuery

from dnms.api import answers
from dnms.api.addresses import TheLedgers
from dnms.api.answers import EnteredAnswer, ForgottenAnswer, KeptRow
from dnms.api.bodies import Body, body_of, client_of
from dnms.api.description import BODY
from dnms.api.ledgers import Ledgers
from dnms.api.plan import Plans
from dnms.api.problems import Invalid, NotThere, Problem
from dnms.api.questions import TheViews
from dnms.bus.committer import Committer
from dnms.bus.port import Log, LogError
from dnms.domain.aggregate import Refused
from dnms.domain.assignment import group_of
from dnms.domain.identity import INTERFACE, duid_of_hardware, iaid_of, iaid_of_hardware, parse_duid, parse_hardware
from dnms.domain.nodes import as_asked
from dnms.domain.plan import PlanState
from dnms.domain.strategies import STRATEGIES
from dnms.events.ip import family, format_address
from dnms.events.node import NodeEntered
from dnms.events.plan import Family
from dnms.events.recorded import Personal
from dnms.events.requests import (
    CompleteNode,
    EnterNode,
    ForgetNode,
    HoldAddress,
    JoinAddresses,
    UnholdAddress,
    WithdrawAddress,
)
from dnms.projections.files import ViewsError
from dnms.projections.nodes import queries as nodes
from dnms.projections.views import Views

CLIENT_BYTES = 16

LOOK = 10.0  # seconds for the views to reach the end of the log, in one look for nodes that are to be resumed

_logger = structlog.get_logger(__name__)

NodeName = Annotated[str, msgspec.Meta(min_length=1, max_length=253)]


class Enter(Body, frozen=True, kw_only=True):
    """A node that is to come."""

    name: NodeName
    duid: str | None = None  # hex; this, or else `mac`
    mac: str | None = None  # the hardware address of the interface for which its addresses are
    group: str | None = None
    subnets: list[str] = []  # none: all that the plan has
    interface: str | None = None  # with `duid`; none: INTERFACE


class _Who(msgspec.Struct, frozen=True):
    """Whom an operator enters."""

    duid: bytes
    iaid: int
    hardware: tuple[Personal, ...] = ()


@post("/nodes", status_code=HTTPStatus.OK, opt={BODY: Enter})
async def enter(
    request: Request[Any, Any, Any], plans: Plans, views: TheViews, ledgers: TheLedgers
) -> Response[EnteredAnswer]:
    """Enter a node, and say which addresses it will have. The same again finishes what was begun, and changes nothing.

    409 if it is entered otherwise, or if there is no address for it somewhere; then it is entered, and not ready.
    """
    wanted = await body_of(request, Enter)
    asked = entry_of(wanted, plans.fold.state, ledgers)
    shard = await ledgers.shard(asked.client)
    known = await ledgers.node(asked.client)
    # An entry from before anything was sealed is not the same in the log, where it is compared, though it is in clear.
    if known is None or known.entered != as_asked(asked):
        await shard.submit(asked)
    addresses = await complete(asked.client, plans, ledgers)
    position = shard.fold.sequence
    found = EnteredAnswer(
        position=position,
        folded=await answers.folded(views, position),
        client=asked.client.hex(),
        name=wanted.name,
        addresses=addresses,
    )
    return answers.answer(found, position)


def entry_of(wanted: Enter, plan: PlanState, ledgers: Ledgers) -> EnterNode:
    """What the nodes are asked for to enter one; Invalid."""
    who = _who(wanted)
    if wanted.group is not None and wanted.group not in plan.groups:
        raise Invalid("group", f"the plan has no group {wanted.group!r}; expected one of {sorted(plan.groups)}")
    for name in wanted.subnets:
        if name not in plan.subnets:
            raise Invalid("subnets", f"the plan has no subnet {name!r}; expected one of {sorted(plan.subnets)}")
    return EnterNode(
        client=ledgers.client_id(who.duid),
        duid=Personal(who.duid),
        name=Personal(wanted.name),
        iaid=who.iaid,
        hardware=who.hardware,
        group=wanted.group or "",
        subnets=tuple(sorted(set(wanted.subnets))),
    )


def _who(wanted: Enter) -> _Who:
    """The identity by which a node is entered; Invalid."""
    if (wanted.duid is None) == (wanted.mac is None):
        raise Invalid("duid", "expected a DUID, or else the hardware address of an interface as `mac`")
    if wanted.duid is not None:
        try:
            return _Who(parse_duid(wanted.duid), iaid_of(wanted.interface or INTERFACE))
        except ValueError as error:
            raise Invalid("duid", str(error)) from None
    if wanted.interface is not None:
        raise Invalid("interface", "the interface is the one with that hardware address; leave its name out")
    try:
        hardware = parse_hardware(wanted.mac or "")
    except ValueError as error:
        raise Invalid("mac", str(error)) from None
    return _Who(duid_of_hardware(hardware), iaid_of_hardware(hardware), (Personal(hardware),))


async def complete(client: bytes, plans: Committer[PlanState], ledgers: Ledgers) -> list[KeptRow]:
    """Keep addresses for a node that is entered, wherever it is entered for, and say that it is ready. Problem.

    Of an entry by a hardware address it is the node that was recognised by it, once that has come.
    """
    asked, plan = client, plans.fold.state
    client, entered = await _come(asked, ledgers)
    joins = await _inheriting(entered, ledgers)
    kept: list[KeptRow] = []
    refused: list[str] = []
    for subnet in entered.subnets or sorted(plan.subnets):
        ledger = await ledgers.current(subnet, plan)
        for join in joins:
            await ledger.submit(join)
        for kind in _families(plan, subnet):
            hold = HoldAddress(client=client, iaid=entered.iaid, family=kind, group=_group(plan, entered))
            try:
                await ledger.submit(hold)
            except Refused as refusal:
                refused.append(f"IPv{kind} in subnet {subnet}: {refusal}")
            state = ledger.fold.state
            held = [each for each in state.holds.get((client, entered.iaid, kind), ()) if state.pool_of(each)]
            kept += [KeptRow(subnet=subnet, address=format_address(address)) for address in held]
    if refused:
        raise Problem(
            HTTPStatus.CONFLICT,
            "not-ready",
            f"it is entered and not ready, since it has no address: {'; '.join(refused)}; mend that and enter it again",
        )
    for each in dict.fromkeys((client, asked)):
        await (await ledgers.shard(each)).submit(CompleteNode(client=each))
    return kept


async def _come(client: bytes, ledgers: Ledgers) -> tuple[bytes, NodeEntered]:
    """The entry of a client, or else of the one that it was joined into. Refused."""
    known = await ledgers.node(client)
    if known is None or known.entered is None:
        raise Refused("not-entered", "nobody has entered this node")
    if known.joined:
        into = await ledgers.node(known.joined)
        if into is not None and into.entered is not None:  # else its agent is about to say so
            return known.joined, into.entered
    return client, known.entered


async def _inheriting(entered: NodeEntered, ledgers: Ledgers) -> list[JoinAddresses]:
    """To have for a node that was recognised by a hardware address what is kept for the entry by that."""
    joins = []
    for hardware in entered.hardware:
        if isinstance(address := hardware.value, bytes):
            entry = ledgers.client_id(duid_of_hardware(address))
            known = (await ledgers.shard(entry)).fold.state.nodes.get(entry)
            if known is not None and known.joined == entered.client:
                iaid = iaid_of_hardware(address)
                joins.append(JoinAddresses(client=entry, iaid=iaid, into=entered.client, into_iaid=entered.iaid))
    return joins


@delete("/nodes/{node:str}", status_code=HTTPStatus.OK)
async def forget(
    node: FromPath[str], plans: Plans, views: TheViews, ledgers: TheLedgers, personal: FromQuery[bool] = False
) -> Response[ForgottenAnswer]:
    """End all that is kept for a node and leased to it, and forget it. 409 if it has an open session.

    With `personal` the keys are destroyed with which the log has what is personal of it, under all its identities; so
    too of a node that was forgotten before, which is named by its DUID or its client id.
    """
    client = await _forgettable(node, views, ledgers, personal=personal)
    async with views.read() as reading:
        if any(session.open for session in await nodes.sessions(reading.db, client)):
            raise Problem(HTTPStatus.CONFLICT, "node-here", "the node has an open session; stop its agent first")
        joined = await nodes.joined_into(reading.db, client)
    shard = await ledgers.shard(client)
    if client not in shard.fold.state.nodes and not (personal and await ledgers.keys.of(client)):
        raise Refused("not-known", "no such node was entered, or has said who it is")
    unheld: list[str] = []
    withdrawn: list[str] = []
    for subnet in sorted(plans.fold.state.subnets):
        ledger = await ledgers.current(subnet, plans.fold.state)
        state = ledger.fold.state
        for address, (whose, iaid) in [*state.held.items()]:
            if (whose == client or whose in joined) and address not in state.planned:  # that ends in the plan
                await ledger.submit(UnholdAddress(client=whose, iaid=iaid, address=address))
                unheld.append(format_address(address))
        for lease in [*state.leases.values()]:
            if lease.client == client or lease.client in joined:
                await ledger.submit(WithdrawAddress(client=lease.client, iaid=lease.iaid, address=lease.address))
                withdrawn.append(format_address(lease.address))
    in_clear = 0
    # The node itself is the last, so that who is interrupted can ask again by the same name.
    for identity in (*joined, client):
        of_identity = await ledgers.shard(identity)
        key = await ledgers.keys.of(identity) if personal else None
        forgetting = ForgetNode(client=identity, personal=personal, key=key.id if key is not None else b"")
        try:
            await of_identity.submit(forgetting)
        except Refused:  # forgotten already
            if identity == client:
                raise
        if key is not None:
            await ledgers.keys.destroy(identity, key.id)
        if personal:
            in_clear += await ledgers.in_clear(identity)
    position = shard.fold.sequence
    found = ForgottenAnswer(
        position=position,
        folded=await answers.folded(views, position),
        client=client.hex(),
        unheld=unheld,
        withdrawn=withdrawn,
        personal=personal,
        in_clear=in_clear,
    )
    return answers.answer(found, position)


async def _forgettable(node: str, views: Views, ledgers: Ledgers, *, personal: bool) -> bytes:
    """The client of a node that is to be forgotten. NotThere, Invalid; LogError."""
    try:
        return await client_of(views, ledgers, node)
    except NotThere:
        with suppress(ValueError):
            client = bytes.fromhex(node)
            if personal and len(client) == CLIENT_BYTES and await ledgers.keys.of(client):
                return client
        raise


async def resume(log: Log, views: Views, plans: Committer[PlanState], ledgers: Ledgers) -> None:
    """Finish what a former server had begun when it ended: nodes that are entered and not ready, and keys that are to
    be destroyed.
    """
    try:
        await ledgers.finish_forgetting()
        end = await log.end()
        while not await views.reached(end, within=LOOK):
            pass
        async with views.read() as reading:
            clients = await nodes.unready(reading.db)
    except (LogError, ViewsError) as error:
        _logger.warning("nodes that were entered are not looked for", why=error.why)
        return
    for client in clients:
        try:
            await complete(client, plans, ledgers)
        except (LogError, Refused, Problem) as error:
            _logger.warning("a node is entered and not ready", client=client.hex(), why=error.why, text=str(error))
        else:
            _logger.info("a node is ready that was entered before", client=client.hex())


def _families(plan: PlanState, subnet: str) -> list[Family]:
    """The families of which a subnet gives addresses to whoever comes."""
    pools = [pool for pool in plan.pools.values() if pool.subnet == subnet and STRATEGIES[pool.strategy].dynamic]
    kinds = {family(pool.first) for pool in pools}
    both: tuple[Family, Family] = (6, 4)
    return [kind for kind in both if kind in kinds]


def _group(plan: PlanState, entered: NodeEntered) -> int:
    name, duid = entered.name.value, entered.duid.value
    return group_of(
        plan,
        name if isinstance(name, str) else "",
        duid=duid if isinstance(duid, bytes) else b"",
        hardware=[address for each in entered.hardware if isinstance(address := each.value, bytes)],
        entered=entered.group,
    )


HANDLERS = (enter, forget)
