"""Addresses that an operator reserves, releases and moves: decided by the ledger of their subnet."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from litestar import Request, Response, delete, post
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery, SkipValidation

from dnms.api import answers
from dnms.api.answers import LedgerAnswer
from dnms.api.bodies import Body, body_of, client_of
from dnms.api.description import BODY
from dnms.api.ledgers import Ledgers
from dnms.api.plan import Plans
from dnms.api.problems import Invalid, NotThere
from dnms.api.questions import TheViews
from dnms.bus.committer import Committer
from dnms.domain.identity import INTERFACE, iaid_of
from dnms.domain.ledger import Ledger
from dnms.domain.plan import PlanState
from dnms.domain.reserved import prefix_in
from dnms.events.ip import family, format_address, parse_address
from dnms.events.recorded import Event
from dnms.events.requests import HoldAddress, MoveAddress, UnholdAddress, WithdrawAddress
from dnms.projections.text import plain
from dnms.projections.views import Views

TheLedgers = NamedDependency[SkipValidation[Ledgers]]


class Reserve(Body, frozen=True, kw_only=True):
    """For whom an address is reserved."""

    node: str  # its name, its client id, or a DUID that need not be known yet
    interface: str = INTERFACE
    subnet: str | None = None  # where realms have the same address


class Move(Body, frozen=True, kw_only=True):
    """Where a client moves."""

    to: str | None = None  # None: to the next address that is free
    subnet: str | None = None


@post("/addresses/{address:str}/reservation", status_code=HTTPStatus.OK, opt={BODY: Reserve})
async def reserve(
    request: Request[Any, Any, Any], address: FromPath[str], plans: Plans, views: TheViews, ledgers: TheLedgers
) -> Response[LedgerAnswer]:
    """Keep an address for one interface of a node, which is given it when it asks, or told it if it is there.

    409 if somebody else has it, or it can be given to nobody.
    """
    wanted = await body_of(request, Reserve)
    packed = _address(address, "address")
    client = await client_of(views, ledgers, wanted.node)
    subnet = subnet_of(plans.fold.state, packed, wanted.subnet)
    ledger = await ledgers.current(subnet, plans.fold.state)
    known = await ledgers.node(client)
    by_hardware = known.iaid_by_hardware if known is not None else None
    hold = HoldAddress(
        client=client,
        iaid=iaid_of(wanted.interface) if by_hardware is None else by_hardware,
        family=4 if family(packed) == 4 else 6,
        address=packed,
    )
    return await _changed(views, subnet, ledger, client, await ledger.submit(hold))


@delete("/addresses/{address:str}/reservation", status_code=HTTPStatus.OK)
async def release(
    address: FromPath[str],
    plans: Plans,
    views: TheViews,
    ledgers: TheLedgers,
    *,
    subnet: FromQuery[str | None] = None,
    lease: FromQuery[bool] = False,
) -> Response[LedgerAnswer]:
    """End the reservation of an address; a lease of it goes on, unless `lease` says to end that too.

    404 if there is nothing to end.
    """
    packed = _address(address, "address")
    where = subnet_of(plans.fold.state, packed, subnet)
    ledger = await ledgers.current(where, plans.fold.state)
    state = ledger.fold.state
    kept, leased = state.held.get(packed), state.leases.get(packed) if lease else None
    if kept is None and leased is None:
        what = "neither reserved nor leased" if lease else "not reserved"
        raise NotThere(f"{format_address(packed)} is {what}")
    events: list[Event] = []
    client = kept[0] if kept else leased.client if leased else b""
    if kept is not None:
        events += await ledger.submit(UnholdAddress(client=kept[0], iaid=kept[1], address=packed))
    if leased is not None:
        events += await ledger.submit(WithdrawAddress(client=leased.client, iaid=leased.iaid, address=packed))
    return await _changed(views, where, ledger, client, tuple(events))


@post("/addresses/{address:str}/move", status_code=HTTPStatus.OK, opt={BODY: Move})
async def move(
    request: Request[Any, Any, Any], address: FromPath[str], plans: Plans, views: TheViews, ledgers: TheLedgers
) -> Response[LedgerAnswer]:
    """Give who has an address another one instead: the old one can be used until it is drained.

    404 if nobody has it, 409 if the other one cannot be given.
    """
    wanted = await body_of(request, Move)
    packed = _address(address, "address")
    to = None if wanted.to is None else _address(wanted.to, "to")
    subnet = subnet_of(plans.fold.state, packed, wanted.subnet)
    ledger = await ledgers.current(subnet, plans.fold.state)
    lease = ledger.fold.state.leases.get(packed)
    if lease is None:
        raise NotThere(f"nobody has {format_address(packed)} now")
    asked = MoveAddress(client=lease.client, iaid=lease.iaid, address=packed, to=to)
    return await _changed(views, subnet, ledger, lease.client, await ledger.submit(asked))


def subnet_of(plan: PlanState, address: bytes, named: str | None) -> str:
    """The subnet that an address lies in, or the named one, which has to have it. NotThere, Invalid."""
    found = sorted(name for name, subnet in plan.subnets.items() if prefix_in(subnet, address) is not None)
    if named is not None:
        if named not in found:
            raise Invalid("subnet", f"no prefix of a subnet {named!r} has {format_address(address)}")
        return named
    if not found:
        raise NotThere(f"no subnet of the plan has {format_address(address)}")
    if len(found) > 1:
        raise Invalid("subnet", f"{len(found)} subnets have {format_address(address)}; name one: {', '.join(found)}")
    return found[0]


async def _changed(
    views: Views, subnet: str, ledger: Committer[Ledger], client: bytes, events: tuple[Event, ...]
) -> Response[LedgerAnswer]:
    position = ledger.fold.sequence
    found = LedgerAnswer(
        position=position,
        folded=await answers.folded(views, position),
        subnet=subnet,
        client=client.hex(),
        events=[{"name": event.NAME, "fields": plain(event)} for event in events],
    )
    return answers.answer(found, position)


def _address(text: str, path: str) -> bytes:
    try:
        return parse_address(text)
    except ValueError as error:
        raise Invalid(path, str(error)) from None


HANDLERS = (reserve, release, move)
