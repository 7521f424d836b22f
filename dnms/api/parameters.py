"""What no parameter of a query may be."""

from __future__ import annotations

import difflib
from typing import Any

from litestar import Litestar
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


def parameters(app: Litestar) -> dict[BaseRouteHandler, frozenset[str]]:
    """Of each handler the parameters of a query that it has, those of what it depends on among them."""
    return {
        handler: frozenset(parameter.field_alias for parameter in model.expected_query_params)
        for route in app.routes
        if isinstance(route, HTTPRoute)
        for handler, model in route.route_handler_map.values()
    }


def known(connection: ASGIConnection[Any, Any, Any, Any], handler: BaseRouteHandler) -> None:
    """A guard that refuses a parameter that the handler does not have, by `parameters` in the app's state. Invalid.

    Else `?subnets=east` would answer with the nodes of every subnet.
    """
    has = connection.app.state.parameters.get(connection.route_handler, frozenset())
    for name in connection.query_params:
        if name not in has:
            near = difflib.get_close_matches(name, has, 1)
            raise Invalid(
                name,
                f"there is no such parameter; did you mean `{near[0]}`?"
                if near
                else f"there is no such parameter; expected {' or '.join(sorted(has)) or 'none'}",
            )
