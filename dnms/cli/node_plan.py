"""`dnms node plan`: what would be done to a node, before it is done."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Annotated
from urllib.parse import quote

import msgspec
from cyclopts import Parameter
from rich.console import RenderableType

from dnms.cli import http
from dnms.cli.exits import OK
from dnms.cli.options import API, SITE, ApiUrl, SiteDirectory
from dnms.cli.rendering import Output, answer, facts, table
from dnms.domain.foreseen_node import Step
from dnms.events.configuration import Mode
from dnms.projections.nodes.queries import SHORT


class NodePlan(msgspec.Struct, frozen=True, kw_only=True):
    """As `dnms.api.node_plan.NodePlanAnswer`; that module takes half a second to import."""

    position: int
    node: str | None
    client: str
    subnet: str
    interface: str
    mode: Mode
    refused: dict[str, str]
    steps: list[Step]


def plan(
    node: Annotated[str, Parameter(help=f"Its name, or its client id or the first {SHORT} digits of that.")],
    /,
    *,
    mode: Annotated[Mode | None, Parameter(help="As if its policy had this mode.")] = None,
    interface: Annotated[str | None, Parameter(help="This one of its interfaces, and not the one it is on.")] = None,
    api: ApiUrl = API,
    site: SiteDirectory = SITE,
    output: Output = "table",
) -> int:
    """What would be done to a node by its policy: each step, and what stays and why. Nothing is done."""

    async def asked() -> NodePlan:
        async with http.opened(api, site) as opened:
            wanted = {"mode": mode, "interface": interface}
            return await opened.get(f"/nodes/{quote(node, safe='')}/plan", NodePlan, wanted)

    found = asyncio.run(asked())
    answer(found, lambda: _tables(found), output)
    return OK


def _tables(found: NodePlan) -> Iterator[RenderableType]:
    yield facts(
        [
            ("node", found.node or found.client),
            ("subnet", found.subnet),
            ("interface", found.interface),
            ("mode", found.mode),
            ("not given", [f"IPv{kind}: {why}" for kind, why in found.refused.items()] or None),
        ]
    )
    yield table(("Change", "What", "", "Why"), ((one.change, one.kind, one.what, one.why) for one in found.steps))
