"""Who may ask: whoever has the site's API token."""

from __future__ import annotations

import hmac
from http import HTTPStatus
from typing import Any

from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler
from litestar.types import Guard

from dnms.api.problems import Problem


def bearer(token: str) -> Guard:
    """A guard that lets in who shows `token` (RFC 6750, 2.1). The time it takes says nothing of how much was right."""
    expected = token.encode()

    def guard(connection: ASGIConnection[Any, Any, Any, Any], handler: BaseRouteHandler) -> None:
        scheme, _, given = connection.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not hmac.compare_digest(given.strip().encode(), expected):
            raise Problem(
                HTTPStatus.UNAUTHORIZED, "unauthorized", "send the site's API token: `Authorization: Bearer …`"
            )

    return guard
