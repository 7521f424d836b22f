"""Whether this server lives, and whether it can answer; for who starts it again, or sends callers to it. No token."""

from __future__ import annotations

from http import HTTPStatus

import msgspec
from litestar import get

from dnms.api.description import OPEN
from dnms.api.problems import Problem
from dnms.api.questions import TheViews
from dnms.projections.store import STOPPED


class Health(msgspec.Struct, frozen=True):
    """One word."""

    status: str


@get("/healthz", opt={OPEN: True})
async def healthz() -> Health:
    """The server lives: it has an event loop that goes on."""
    return Health("alive")


@get("/readyz", opt={OPEN: True})
async def readyz(views: TheViews) -> Health:
    """Questions are answered. 503 while there are no views, or if they have stopped, since the log cannot be trusted.

    Without the log they are answered as of when it was reached last, so that is no reason to send callers elsewhere.
    """
    status = await views.status()
    if status.state == STOPPED or status.position is None:
        raise Problem(HTTPStatus.SERVICE_UNAVAILABLE, "not-ready", f"the views are {status.state}")
    return Health("ready")


HANDLERS = (healthz, readyz)
