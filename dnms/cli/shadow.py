"""`dnms shadow`: in what DNMS would differ from the server that serves a link now."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from typing import Annotated

from cyclopts import Parameter
from rich.console import RenderableType

from dnms.agents.shadow import Found, ShadowError, ShadowSettings, Summary, run
from dnms.cli.exits import MACHINE, NO, OK, Failure
from dnms.cli.options import BUS_PORT, HOST, SITE, BusText, SiteDirectory
from dnms.cli.rendering import Output, answer, facts, json_line, line, say, table
from dnms.kit import logging


def shadow(
    interface: Annotated[str, Parameter(help="To the link, on the other server's machine or where all it says comes.")],
    /,
    *,
    subnet: Annotated[str, Parameter(help="Of the plan, that is served on that link.")],
    bus: Annotated[BusText, Parameter(name="--bus", env_var="DNMS_BUS", help="Where the log is.")] = (
        f"nats://{HOST}:{BUS_PORT}"
    ),
    site: SiteDirectory = SITE,
    output: Output = "table",
) -> int:
    """Listen to another server, decide silently, and tell each difference, until SIGINT or SIGTERM.

    Nothing is sent, and nothing written to the log. A line a difference, and the whole at the end; with `-o json` an
    object each. Exit code 1 if anything differs.
    """
    logging.configure()
    settings = ShadowSettings(interface=interface, subnet=subnet, site=site, bus=bus)

    def report(found: Found) -> None:
        if output == "json":
            json_line(found)
        else:
            what = found.what if found.what == found.of else f"{found.what} {found.of}"
            line(
                found.time,
                f"DHCPv{found.family}",
                found.client,
                found.message,
                f"{what}:",
                found.there,
                "/",
                found.here,
            )

    try:
        summary = asyncio.run(_until_signalled(settings, report))
    except ShadowError as error:
        raise Failure(MACHINE, str(error)) from error
    if summary is None:
        return OK
    answer({"summary": summary}, lambda: _tables(summary), output)
    return NO if summary.differences else OK


def _tables(summary: Summary) -> list[RenderableType]:
    found: list[RenderableType] = []
    if summary.differences:
        found.append(table(("What differs", "How often"), sorted(summary.differences.items())))
    named = [
        (name.replace("_", " "), getattr(summary, name)) for name in ("compared", "equal", "clients", "new_clients")
    ]
    return [*found, facts([*named, ("differences", sum(summary.differences.values())), ("ignored", summary.ignored)])]


async def _until_signalled(settings: ShadowSettings, report: Callable[[Found], None]) -> Summary | None:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)

    def ready() -> None:
        say(f"listening on {settings.interface}")

    return await run(settings, stop=stop, ready=ready, report=report)
