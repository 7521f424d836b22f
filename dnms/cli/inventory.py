"""`dnms inventory`: the nodes for programs that look for machines."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from cyclopts import App, Parameter, validators

from dnms.cli import http
from dnms.cli.exits import OK
from dnms.cli.options import API, MAX_PORT, SITE, ApiUrl, SiteDirectory
from dnms.cli.rendering import Output, answer, table

app = App(name="inventory", help="The nodes for other programs: Ansible's inventory, Prometheus' targets.")

META = "__meta_dnms_"
"""Before the labels, of which Prometheus keeps none that nobody relabels."""


class Target(msgspec.Struct, frozen=True):
    """One node as Prometheus has it."""

    targets: list[str]
    labels: dict[str, str]


Subnet = Annotated[str | None, Parameter(help="Those on this subnet only.")]
Group = Annotated[str | None, Parameter(help="Those of this group only.")]
Session = Annotated[Literal["open", "closed", "none"] | None, Parameter(help="Those with such a session only.")]
Family = Annotated[Literal["6", "4"], Parameter(help="Which of their addresses to take, if they have such.")]


@app.command
def ansible(
    *,
    list_: Annotated[bool, Parameter(name="--list", help="As Ansible asks for all, in JSON.", negative="")] = False,
    host: Annotated[str | None, Parameter(help="As Ansible asks for the variables of one host, in JSON.")] = None,
    subnet: Subnet = None,
    group: Group = None,
    session: Session = None,
    family: Family = "6",
    api: ApiUrl = API,
    site: SiteDirectory = SITE,
    output: Output = "table",
) -> int:
    """The nodes as an inventory script of Ansible prints them: hosts in group_… and subnet_…, with `ansible_host`."""
    wanted = {"subnet": subnet, "group": group, "session": session, "family": family}
    found = _ask("/discovery/ansible", dict[str, Any], wanted, api, site)
    variables = found["_meta"]["hostvars"]
    answer(
        found if host is None else variables.get(host, {}),
        lambda: [table(("Host", "Address", "Groups"), _hosts(found, variables))],
        "json" if list_ or host is not None else output,
    )
    return OK


@app.command
def prometheus(
    *,
    port: Annotated[int, Parameter(help="Of theirs.", validator=validators.Number(gte=1, lte=MAX_PORT))] = 9100,
    subnet: Subnet = None,
    group: Group = None,
    session: Session = None,
    family: Family = "6",
    api: ApiUrl = API,
    site: SiteDirectory = SITE,
    output: Output = "table",
) -> int:
    """The nodes as targets; with `-o json` a file for Prometheus' file_sd_configs. Its http_sd_configs asks the API."""
    wanted = {"port": port, "subnet": subnet, "group": group, "session": session, "family": family}
    found = _ask("/discovery/prometheus", list[Target], wanted, api, site)
    rows = ((each.targets, {key.removeprefix(META): value for key, value in each.labels.items()}) for each in found)
    answer(found, lambda: [table(("Target", "Labels"), rows)], output)
    return OK


def _hosts(found: dict[str, Any], variables: dict[str, Any]) -> Iterator[tuple[object, ...]]:
    groups = {name: set(group["hosts"]) for name, group in found.items() if "hosts" in group}
    for host, about in variables.items():
        yield host, about.get("ansible_host"), [name for name, hosts in groups.items() if host in hosts]


def _ask(path: str, kind: Any, wanted: dict[str, Any], api: str, site: Path) -> Any:
    async def asked() -> Any:
        async with http.opened(api, site) as opened:
            return await opened.get(path, kind, wanted)

    return asyncio.run(asked())
