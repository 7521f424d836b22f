"""`dnms node add`, `forget`, `join` and `part`: machines that are to come, that are gone, that are one."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import httpx
import msgspec
from cyclopts import App, Parameter
from rich.console import Console, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from dnms.cli import changing, http
from dnms.cli.exits import INTERRUPTED, NO, OK, UNREACHABLE, USAGE, Failure
from dnms.cli.node_file import Row, rows
from dnms.cli.options import API, SITE, ApiUrl, SiteDirectory
from dnms.cli.rendering import Output, answer, say, table

AT_ONCE = 8
"""Nodes that are entered at the same time: what comes together goes into the log together."""


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """An address that is kept for a node."""

    subnet: str
    address: str


class Entered(msgspec.Struct, frozen=True, kw_only=True):
    """A node that was entered."""

    position: int
    folded: bool
    client: str
    name: str
    addresses: list[Kept]


class Forgotten(msgspec.Struct, frozen=True, kw_only=True):
    """A node that is no more."""

    position: int
    folded: bool
    client: str
    unheld: list[str]
    withdrawn: list[str]
    personal: bool
    in_clear: int


class Joined(msgspec.Struct, frozen=True, kw_only=True):
    """A node that another one was joined into, or is no more."""

    position: int
    folded: bool
    client: str
    other: str
    moved: list[str]
    kept: list[Kept] = []


def add(  # all that is known of a node
    name: Annotated[str | None, Parameter(help="How it is called.")] = None,
    /,
    *,
    duid: Annotated[str | None, Parameter(help="In hex.")] = None,
    mac: Annotated[str | None, Parameter(help="Hardware address of the interface for which its addresses are.")] = None,
    group: Annotated[str | None, Parameter(help="Wins over the patterns of the plan's groups.")] = None,
    subnet: Annotated[
        tuple[str, ...], Parameter(help="Where it may come to; without it, everywhere.", negative="")
    ] = (),
    interface: Annotated[str | None, Parameter(help="For which its addresses are; with --duid, else eth0.")] = None,
    from_: Annotated[
        Path | None,
        Parameter(name="--from", help="A file of nodes: CSV whose first line names the columns, or JSON lines."),
    ] = None,
    api: ApiUrl = API,
    site: SiteDirectory = SITE,
    output: Output = "table",
) -> int:
    """Enter a node, or a file of them, before it ever boots, and say which addresses it will have.

    By --mac it is the first one that comes with that hardware address, which then has them for good.

    The same again finishes what was interrupted, and changes nothing where all is done.
    """
    if from_ is not None:
        if any(each is not None for each in (name, duid, mac, group, interface)) or subnet:
            raise Failure(USAGE, "with --from the file says all of the nodes")
        return _bulk(from_, rows(from_), api, site, output)
    if name is None or (duid is None) == (mac is None):
        raise Failure(USAGE, "give NAME and --duid or --mac, or a file with --from")
    given = {"name": name, "duid": duid, "mac": mac, "group": group, "subnets": list(subnet), "interface": interface}
    document = {key: value for key, value in given.items() if value is not None}
    entered = changing.post(api, site, "/nodes", document, Entered)
    answer(entered, lambda: [_table([entered])], output)
    return OK


def forget(
    node: Annotated[str, Parameter(help="Its name, its client id, or its DUID.")],
    /,
    *,
    personal: Annotated[
        bool,
        Parameter(
            help="Nobody can read its name, DUID and hardware addresses any more, in the log neither.", negative=()
        ),
    ] = False,
    api: ApiUrl = API,
    site: SiteDirectory = SITE,
    output: Output = "table",
) -> int:
    """End all that is kept for a node and leased to it, and forget it. Its agent has to have stopped.

    With --personal the key is destroyed with which the log has what is personal of it. That cannot be undone.
    """
    parameters = {"personal": personal} if personal else {}
    forgotten = changing.delete(api, site, f"/nodes/{http.quoted(node)}", parameters, Forgotten)
    ended = [
        f"{what}: {', '.join(addresses)}"
        for what, addresses in (("reserved no more", forgotten.unheld), ("leases ended", forgotten.withdrawn))
        if addresses
    ]
    if forgotten.personal:
        ended.append("what is personal of it cannot be read any more")
    if forgotten.in_clear:
        say(f"{forgotten.in_clear} events from before anything was sealed have it in clear, and stay in the log")
    answer(forgotten, lambda: [Text("; ".join([f"{node} is forgotten", *ended]) + ".")], output)
    return OK


def join(
    node: Annotated[str, Parameter(help="Its name, its client id, or its DUID.")],
    other: Annotated[str, Parameter(help="What is this node too: a name, a client id, or a DUID.")],
    /,
    *,
    interface: Annotated[
        str, Parameter(help="Of NODE, for which it has what was kept for an OTHER that was entered by --mac.")
    ] = "eth0",
    api: ApiUrl = API,
    site: SiteDirectory = SITE,
    output: Output = "table",
) -> int:
    """Say that another node is the same machine as this one: they are shown as one, and it has what the other had kept.

    A machine that was installed anew is another node at first: `dnms node join NEW OLD`.
    """
    document = {"other": other, "interface": interface}
    joined = changing.post(api, site, f"/nodes/{http.quoted(node)}/identities", document, Joined)
    kept = f"; kept for it now: {', '.join(joined.moved)}" if joined.moved else ""
    answer(joined, lambda: [Text(f"{other} is {node} ({joined.client}) from now on{kept}.")], output)
    return OK


def part(
    node: Annotated[str, Parameter(help="Its name, its client id, or its DUID.")],
    other: Annotated[str, Parameter(help="One of its identities, by its client id or the first digits of that.")],
    /,
    *,
    api: ApiUrl = API,
    site: SiteDirectory = SITE,
    output: Output = "table",
) -> int:
    """Say that one of a node's identities is a node of its own. What was kept for it stays with the node.

    An entry by --mac waits for its machine again, and other addresses are kept for it.
    """
    path = f"/nodes/{http.quoted(node)}/identities/{http.quoted(other)}"
    parted = changing.delete(api, site, path, {}, Joined)
    waits = ", ".join(row.address for row in parted.kept)
    told = f", and waits for its machine again; kept for it: {waits}" if waits else ""
    answer(parted, lambda: [Text(f"{parted.other} is a node of its own{told}.")], output)
    return OK


def _bulk(file: Path, wanted: Sequence[Row], api: str, site: Path, output: Output) -> int:
    found: list[Entered | None] = [None] * len(wanted)
    interrupted, failed, unreached = False, 0, None
    try:
        failed, unreached = asyncio.run(_enter_all(file, wanted, found, api, site))
    except KeyboardInterrupt:
        interrupted = True
    entered = [each for each in found if each is not None]
    answer(entered, lambda: [_table(entered)] if entered else [], output)
    done = f"{len(entered)} of {len(wanted)} nodes are entered"
    if interrupted:
        raise Failure(INTERRUPTED, f"{done}; the same command again goes on from there")
    if unreached is not None:
        raise Failure(UNREACHABLE, f"{unreached}\n{done}; the same command again goes on from there")
    if failed:
        say(done)
    return NO if failed else OK


async def _enter_all(
    file: Path, wanted: Sequence[Row], found: list[Entered | None], api: str, site: Path
) -> tuple[int, str | None]:
    """Put what became of each row into `found`; how many failed, and what ended it before all were asked for."""
    failed: list[int] = []
    unreached: list[str] = []
    console = Console(stderr=True)
    columns = (TextColumn("entering"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    left = iter(enumerate(wanted))
    async with http.opened(api, site) as opened:
        with Progress(*columns, console=console, disable=not sys.stderr.isatty(), transient=True) as progress:
            bar = progress.add_task("", total=len(wanted))

            def refused(row: Row, why: str) -> None:
                failed.append(row.line)
                # Past the bar, where there is one; never wrapped, since a program may read it.
                console.print(f"dnms: {file}:{row.line}: {' '.join(why.split())}", soft_wrap=True, markup=False)

            async def work() -> None:
                for number, row in left:
                    if unreached:
                        return
                    if row.wrong:
                        refused(row, row.wrong)
                    else:
                        try:
                            found[number] = await opened.post("/nodes", row.document, Entered)
                        except http.Refusal as refusal:
                            if refusal.code == UNREACHABLE:
                                unreached.append(changing.unsettled(refusal).text)
                                return
                            refused(row, refusal.text)
                        except httpx.TransportError as error:
                            unreached.append(f"the API does not answer any more ({str(error) or type(error).__name__})")
                            return
                    progress.advance(bar)

            async with asyncio.TaskGroup() as tasks:
                for _ in range(AT_ONCE):
                    tasks.create_task(work())
    return len(failed), unreached[0] if unreached else None


def _table(entered: Sequence[Entered]) -> RenderableType:
    return table(
        ("Node", "Client", "Subnet", "Address"),
        ((node.name, node.client, kept.subnet, kept.address) for node in entered for kept in node.addresses),
    )


def register(app: App) -> None:
    """Make them commands of `dnms node`."""
    app.command(add)
    app.command(forget)
    app.command(join)
    app.command(part)
