"""What clients have from another server: leases that are to hold here too, many in one request.

Each is decided by the ledger of its subnet, as any is; what it refuses is said, and the others are written. The same
again writes nothing. A request that is `dry` writes nothing at all, and says what one that is not would.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Sequence
from http import HTTPStatus
from typing import Annotated, Any, Literal

import msgspec
from litestar import Request as HttpRequest
from litestar import Response, post

from dnms.api import answers
from dnms.api.addresses import TheLedgers, subnet_of
from dnms.api.bodies import Body, body_of
from dnms.api.description import BODY
from dnms.api.ledgers import Ledgers
from dnms.api.plan import Plans
from dnms.api.problems import Invalid, Problem
from dnms.api.questions import TheViews
from dnms.bus.committer import Committer
from dnms.domain import planned, uplinks
from dnms.domain.aggregate import Refused
from dnms.domain.assignment import group_of
from dnms.domain.identity import MAX_DUID, duid_of_hardware, parse_hardware
from dnms.domain.importing import Imported
from dnms.domain.ledger import Ledger
from dnms.domain.nodes import Node
from dnms.domain.plan import PlanState, says_the_same
from dnms.events.ip import Prefix, family, parse_address, parse_prefix
from dnms.events.plan import AdoptedPlan, Name
from dnms.events.recorded import Event, Personal, Request
from dnms.events.requests import AdoptPlan, ClaimReserved, IdentifyNode, ImportAddress, ImportPrefix
from dnms.kit.clock import MICROSECONDS

MAX_LEASES = 1_000
"""In one request: what a committer decides at once."""

AT_ONCE = 32
"""Shards of the nodes that are written at the same time."""

Outcome = Literal["written", "known", "refused"]


class ForeignLease(Body, frozen=True, kw_only=True):
    """What a client has."""

    address: str  # or a prefix, of one that is delegated
    duid: str  # hex; of a DHCPv4 client the one that DHCPv4 has it known by
    iaid: Annotated[int, msgspec.Meta(ge=0, lt=1 << 32)]
    valid_until: Annotated[int, msgspec.Meta(ge=0, lt=1 << 40)]  # seconds since 1970-01-01 UTC
    name: Annotated[str, msgspec.Meta(max_length=255)] = ""  # that it has told
    hardware: str | None = None


class Import(Body, frozen=True, kw_only=True):
    """What another server has."""

    origin: Name  # the kind of that server
    leases: Annotated[list[ForeignLease], msgspec.Meta(min_length=1, max_length=MAX_LEASES)]
    dry: bool = False


class ImportedRow(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one lease."""

    outcome: Outcome
    why: str = ""  # of a refused one: a stable word
    detail: str = ""


class ImportedAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What became of each, in their order."""

    position: int  # of the newest commit of all ledgers that were asked
    folded: bool  # the views have it
    leases: list[ImportedRow]


class _Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """One lease, read."""

    number: int
    subnet: str
    request: Imported
    duid: bytes
    name: str
    hardware: bytes
    names: tuple[bytes, ...]  # the clients that the plan may call it, where it reserves something for it

    def claims(self, ledger: Ledger) -> tuple[ClaimReserved, ...]:
        """What has to be asked for before, so that what is reserved for it is its own."""
        request = self.request
        if isinstance(request, ImportPrefix):
            return ()
        kind: Literal[4, 6] = 4 if family(request.address) == 4 else 6
        return tuple(planned.claims(ledger, self.names, request.client, request.iaid, kind))


@post("/import", status_code=HTTPStatus.OK, opt={BODY: Import})
async def take(
    request: HttpRequest[Any, Any, Any], plans: Plans, views: TheViews, ledgers: TheLedgers
) -> Response[ImportedAnswer]:
    """Take over leases of another server; what is refused is said, and does not keep the others out.

    The same again writes nothing. With `dry` nothing is written, and what would be is said.
    """
    wanted = await body_of(request, Import)
    rows: dict[int, ImportedRow] = {}
    by_subnet: defaultdict[str, list[_Wanted]] = defaultdict(list)
    for number, entry in enumerate(wanted.leases):
        try:
            read = _read(number, entry, wanted.origin, plans.fold.state, ledgers)
        except Problem as problem:
            if problem.status is HTTPStatus.BAD_REQUEST:
                raise
            rows[number] = ImportedRow(outcome="refused", why="not-in-plan", detail=problem.detail)
        else:
            by_subnet[read.subnet].append(read)
    position = plans.fold.sequence
    for subnet, some in by_subnet.items():
        ledger = await ledgers.folded(subnet)
        foreseen = _foreseen(ledger.fold.state, plans.fold.state.for_subnet(subnet), some, ledgers.now())
        rows |= {number: _row(outcome) for number, outcome in foreseen.items()}
        if not wanted.dry:
            # What is known or refused is not asked, so that the same again is in no commit.
            new = [each for each in some if rows[each.number].outcome == "written"]
            if new:
                ledger = await ledgers.current(subnet, plans.fold.state)
                rows |= await _written(ledger, new)
            await _name([each for each in some if rows[each.number].outcome != "refused"], ledgers)
        position = max(position, ledger.fold.sequence)
    found = ImportedAnswer(
        position=position,
        folded=await answers.folded(views, position),
        leases=[rows[number] for number in range(len(wanted.leases))],
    )
    return answers.answer(found, position)


def _read(number: int, lease: ForeignLease, origin: str, plan: PlanState, ledgers: Ledgers) -> _Wanted:
    """What a ledger is asked; Invalid, NotThere."""
    place = f"$.leases[{number}]"
    try:
        address = parse_prefix(lease.address) if "/" in lease.address else parse_address(lease.address)
        duid = bytes.fromhex(lease.duid.replace(":", ""))
        hardware = parse_hardware(lease.hardware) if lease.hardware is not None else b""
    except ValueError as error:
        raise Invalid(place, str(error)) from None
    if not 3 <= len(duid) <= MAX_DUID:
        raise Invalid(f"{place}.duid", f"expected a DUID, of 3 to {MAX_DUID} bytes in hex")
    client = ledgers.client_id(duid)
    who: dict[str, Any] = {
        "client": client,
        "iaid": lease.iaid,
        "group": group_of(plan, lease.name, duid=duid, hardware=(hardware,) if hardware else ()),
        "valid_until": lease.valid_until * MICROSECONDS,
        "origin": origin,
    }
    request: Imported
    if isinstance(address, Prefix):
        subnet, request = _delegating(plan, address), ImportPrefix(prefix=address, **who)
    else:
        subnet, request = subnet_of(plan, address, None), ImportAddress(address=address, **who)
    return _Wanted(
        number=number,
        subnet=subnet,
        request=request,
        duid=duid,
        name=lease.name,
        hardware=hardware,
        names=(client, ledgers.client_id(duid_of_hardware(hardware))) if hardware else (client,),
    )


def _delegating(plan: PlanState, prefix: Prefix) -> str:
    """The subnet that delegates a prefix; Problem."""
    for each in plan.delegations.values():
        if each.prefix is not None and each.prefix.covers(prefix):
            return each.subnet
    raise Problem(HTTPStatus.NOT_FOUND, "not-found", f"no delegation of the plan has {prefix}")


def _foreseen(
    ledger: Ledger, plan: AdoptedPlan, wanted: Iterable[_Wanted], now: int
) -> dict[int, tuple[Event, ...] | Refused]:
    """What would be decided of each by its number, once the ledger has this plan: of a draft that is thrown away."""
    draft = ledger.draft()

    def decided(request: Request) -> tuple[Event, ...]:
        events = draft.decide(request, at=now, entropy=bytes(draft.entropy(request)))
        for event in events:
            draft.evolve(event, at=now, position=0)
        return events

    if not says_the_same(plan, uplinks.planned(ledger.plan)):
        decided(AdoptPlan(plan=plan))
    found: dict[int, tuple[Event, ...] | Refused] = {}
    for each in wanted:
        try:
            for claim in each.claims(draft):
                decided(claim)
            found[each.number] = decided(each.request)
        except Refused as refused:
            found[each.number] = refused
    return found


async def _written(ledger: Committer[Ledger], wanted: Sequence[_Wanted]) -> dict[int, ImportedRow]:
    """What was decided, by number. LogError."""
    found: dict[int, ImportedRow] = {}
    claims = [claim for each in wanted for claim in each.claims(ledger.fold.state)]
    outcomes = await ledger.submit_all([*claims, *(each.request for each in wanted)])
    for each, outcome in zip(wanted, outcomes[len(claims) :], strict=True):
        if isinstance(outcome, BaseException) and not isinstance(outcome, Refused):
            raise outcome
        found[each.number] = _row(outcome)
    return found


def _row(outcome: tuple[Event, ...] | Refused) -> ImportedRow:
    if isinstance(outcome, Refused):
        return ImportedRow(outcome="refused", why=outcome.why, detail=outcome.text)
    return ImportedRow(outcome="written" if outcome else "known")


async def _name(wanted: Iterable[_Wanted], ledgers: Ledgers) -> None:
    """Have the nodes be known by who they are, a commit a shard. What is known of one already is newer. LogError."""
    room = asyncio.Semaphore(AT_ONCE)
    of_shards: defaultdict[bytes, dict[bytes, _Wanted]] = defaultdict(dict)
    for each in wanted:
        of_shards[each.request.client[:1]][each.request.client] = each

    async def name(some: Iterable[_Wanted]) -> None:
        async with room:
            shard = await ledgers.shard(next(iter(some)).request.client)
            nodes = shard.fold.state.nodes
            asked = [_identity(each) for each in some if _is_unknown(nodes.get(each.request.client))]
            for outcome in await shard.submit_all(asked):
                if isinstance(outcome, BaseException):
                    raise outcome

    await asyncio.gather(*(name(some.values()) for some in of_shards.values()))


def _is_unknown(node: Node | None) -> bool:
    return node is None or node.identity is None


def _identity(each: _Wanted) -> IdentifyNode:
    return IdentifyNode(
        client=each.request.client,
        duid=Personal(each.duid),
        name=Personal(each.name),
        subnet=each.subnet,
        hardware=(Personal(each.hardware),) if each.hardware else (),
    )


HANDLERS = (take,)
