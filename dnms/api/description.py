"""The description of the API in OpenAPI 3.1, as it is served and published in `docs/openapi.json`.

Litestar writes it from the handlers. What it cannot know is put in: the bodies that handlers decode themselves (named
in their `opt`, under BODY), errors, who may ask, and that a query has no null.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import msgspec
from litestar import Litestar, Request
from litestar.handlers import HTTPRouteHandler
from litestar.openapi import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin
from litestar.openapi.spec import License
from litestar.routes import HTTPRoute
from litestar.types import Method

import dnms
from dnms.api.answers import POSITION
from dnms.api.problems import MEDIA_TYPE, Document
from dnms.domain.document import json_schema

BODY = "body"
"""The key in a handler's `opt` with the struct that its body is; PLAN for a plan as `docs/plan.md` has it; a media type
for what is no JSON."""

OPEN = "open"
"""The key in a handler's `opt` that says that it needs no token."""

PLAN = "Plan"

ABOUT = f"""Questions are answered from views that are folded from the log, and changes are appended to the log.

An answer from the views has the sequence of the last commit in it as its `watermark`, a change where it stands as its
`position`; both are in the header `{POSITION}` too. `min_seq` waits for a position to be folded. A list has the
`cursor` of its next page in `next`; that goes on with the same filters and order only. Errors are problem documents
(RFC 9457) with a stable word in `why`."""

_SCHEMAS = "#/components/schemas/"
_LONG = re.compile(r"Page_(?:\w+\.)*(\w+)_")


class _Described(JsonRenderPlugin):
    """Serves the description."""

    def render(self, request: Request[Any, Any, Any], openapi_schema: dict[str, Any]) -> bytes:
        """The bytes of it."""
        return msgspec.json.encode(described(request.app))


def config(path: str) -> OpenAPIConfig:
    """What Litestar is to know; the description is served at `openapi.json` under this path."""
    return OpenAPIConfig(
        title="DNMS",
        description=ABOUT,
        license=License(name="Apache-2.0", identifier="Apache-2.0"),
        version=dnms.__version__,
        path=path,
        render_plugins=[_Described()],
        use_handler_docstrings=True,
        operation_id_creator=_operation_id,
    )


def described(app: Litestar) -> dict[str, Any]:
    """The whole description."""
    written = msgspec.json.encode(app.openapi_schema.to_schema()).decode()
    found: dict[str, Any] = msgspec.json.decode(_LONG.sub(r"PageOf\1", written))
    schemas = found["components"]["schemas"]
    schemas |= _schemas(Document, named={"Document": "Problem"}) | _plan()
    found["components"]["responses"] = {
        "Problem": {
            "description": "Why it is not answered, or nothing was changed",
            "content": {MEDIA_TYPE: {"schema": {"$ref": f"{_SCHEMAS}Problem"}}},
        }
    }
    found["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
    for path, method, handler in _handlers(app):
        operation = found["paths"][path][method.lower()]
        operation["parameters"] = [_parameter(each) for each in operation.get("parameters", [])]
        operation["responses"].pop("400", None)
        operation["responses"]["default"] = {"$ref": "#/components/responses/Problem"}
        if not handler.opt.get(OPEN):
            operation["security"] = [{"token": []}]
        if (body := handler.opt.get(BODY)) is not None:
            if isinstance(body, str) and "/" in body:
                operation["requestBody"] = {"required": True, "content": {body: {"schema": {"type": "string"}}}}
                continue
            name = body if isinstance(body, str) else body.__name__
            if not isinstance(body, str):
                schemas |= _schemas(body)
            schema = {"schema": {"$ref": f"{_SCHEMAS}{name}"}}
            operation["requestBody"] = {"required": True, "content": {"application/json": schema}}
    found["components"]["schemas"] = dict(sorted(schemas.items()))
    return found


def _handlers(app: Litestar) -> Iterator[tuple[str, Method, HTTPRouteHandler]]:
    for route in app.routes:
        if isinstance(route, HTTPRoute):
            for handler in route.route_handlers:
                if handler.resolve_include_in_schema():
                    for method in sorted(handler.http_methods - {"OPTIONS", "HEAD"}):
                        yield route.path_format, method, handler


def _operation_id(handler: HTTPRouteHandler, _: Method, __: list[Any]) -> str:
    """`plan.apply`: the file and the function, which nobody else has."""
    return f"{handler.fn.__module__.rpartition('.')[2]}.{handler.fn.__name__}"


def _parameter(written: dict[str, Any]) -> dict[str, Any]:
    """Without what says nothing; and what is left out of a query is not null."""
    schema = {key: value for key, value in written["schema"].items() if key != "description"}
    either = [one for one in schema.pop("oneOf", []) if one != {"type": "null"}]
    if len(either) == 1:
        schema = {**either[0], **schema}
    elif either:
        schema["oneOf"] = either
    if isinstance(schema.get("type"), list):
        kinds = [kind for kind in schema["type"] if kind != "null"]
        schema["type"] = kinds[0] if len(kinds) == 1 else kinds
    if "enum" in schema:
        schema["enum"] = [one for one in schema["enum"] if one is not None]
    if schema.get("format") == "date-time":  # msgspec reads a number as seconds since 1970, as the command line does
        schema = {"anyOf": [{"type": "string", "format": "date-time"}, {"type": "number"}]}
    for bound in ("minimum", "maximum"):
        if isinstance(schema.get(bound), float):
            schema[bound] = int(schema[bound])
    kept = {key: value for key, value in written.items() if value not in (False, "")}
    return {**kept, "schema": schema}


def _schemas(kind: type, *, named: dict[str, str] | None = None) -> dict[str, Any]:
    """The schemas of a struct and all in it."""
    _, found = msgspec.json.schema_components([kind], ref_template=f"{_SCHEMAS}{{name}}")
    return {(named or {}).get(name, name): schema for name, schema in found.items()}


def _plan() -> dict[str, Any]:
    found = json_schema(f"{_SCHEMAS}{PLAN}{{name}}")
    return {PLAN if name == "Document" else f"{PLAN}{name}": schema for name, schema in found.items()}
