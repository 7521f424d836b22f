"""What no parameter of a query may be."""

from __future__ import annotations

import difflib
from typing import Any

from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler
from litestar.routes import HTTPRoute

from dnms.api.problems import Invalid


def no_null(connection: ASGIConnection[Any, Any, Any, Any], handler: BaseRouteHandler) -> None:
    """A guard that refuses the text `null`, which would be taken for a parameter that is not there. Invalid.

    Else `?subnet=null` would answer with the nodes of every subnet, instead of those of the one that is called so.
    """
    for name, value in connection.query_params.multi_items():
        if value.lower() == "null":
            raise Invalid(name, "`null` is no value; leave the parameter out")


def known(connection: ASGIConnection[Any, Any, Any, Any], handler: BaseRouteHandler) -> None:
    """A guard that refuses a parameter that the handler does not have. Invalid.

    Else `?subnets=east` would answer with the nodes of every subnet.
    """
    if not connection.query_params:
        return
    has = {
        parameter.field_alias
        for route in connection.app.routes
        if isinstance(route, HTTPRoute)
        for own, model in route.route_handler_map.values()
        if own is connection.route_handler
        for parameter in model.expected_query_params
    }
    for name in connection.query_params:
        if name not in has:
            near = difflib.get_close_matches(name, has, 1)
            raise Invalid(
                name,
                f"there is no such parameter; did you mean `{near[0]}`?"
                if near
                else f"there is no such parameter; expected {' or '.join(sorted(has)) or 'none'}",
            )
