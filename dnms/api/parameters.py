"""What no parameter of a query may be."""

from __future__ import annotations

from typing import Any

from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler

from dnms.api.problems import Invalid


def no_null(connection: ASGIConnection[Any, Any, Any, Any], handler: BaseRouteHandler) -> None:
    """A guard that refuses the text `null`, which would be taken for a parameter that is not there. Invalid.

    Else `?subnet=null` would answer with the nodes of every subnet, instead of those of the one that is called so.
    """
    for name, value in connection.query_params.multi_items():
        if value.lower() == "null":
            raise Invalid(name, "`null` is no value; leave the parameter out")
