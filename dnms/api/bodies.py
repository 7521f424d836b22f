"""What callers send to have something changed, and whom they name in it."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any, TypeVar

import msgspec
from litestar import Request

from dnms.api.ledgers import Ledgers
from dnms.api.problems import Invalid, NotThere, Place, Problem
from dnms.domain.identity import parse_duid
from dnms.projections.nodes.queries import ambiguous, find
from dnms.projections.views import Views

T = TypeVar("T")


class Body(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A body in JSON; a key that it does not have is a mistake of the caller."""


async def body_of(request: Request[Any, Any, Any], kind: type[T]) -> T:
    """The body of a request; Problem."""
    content = await request.body()
    try:
        return msgspec.json.decode(content or b"{}", type=kind)
    except msgspec.ValidationError as error:
        detail, _, place = str(error).partition(" - at `")
        raise Problem(
            HTTPStatus.BAD_REQUEST, "invalid-parameter", str(error), [Place(place.removesuffix("`") or "$", detail)]
        ) from None
    except msgspec.DecodeError as error:
        raise Problem(HTTPStatus.BAD_REQUEST, "not-json", f"expected JSON: {error}") from None


async def client_of(views: Views, ledgers: Ledgers, who: str) -> bytes:
    """The client that is named by its name, its client id or its DUID, which need not be known. NotThere, Invalid."""
    async with views.read() as reading:
        found = await find(reading.db, who)
    if len(found) > 1:
        raise Invalid("node", ambiguous(who, found))
    if found:
        return bytes.fromhex(found[0].client)
    try:
        return ledgers.client_id(parse_duid(who))
    except ValueError:
        raise NotThere(f"there is no node with the name or client id {who!r}, and it is no DUID") from None
