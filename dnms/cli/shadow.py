"""`dnms shadow`: in what DNMS would differ from the server that serves a link now."""

from __future__ import annotations

import asyncio
import signal
from typing import Annotated

from cyclopts import Parameter

from dnms.agents.shadow import Found, ShadowError, ShadowSettings, Summary, run
from dnms.cli.exits import MACHINE, NO, OK, Failure
from dnms.cli.options import BUS_PORT, HOST, SITE, BusText, SiteDirectory
from dnms.cli.rendering import json_line, say
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
) -> int:
    """Listen to another server, decide silently, and tell each difference, until SIGINT or SIGTERM.

    Nothing is sent, and nothing written to the log. One line of JSON a difference, and one for the whole at the end.
    Exit code 1 if anything differs.
    """
    logging.configure()
    settings = ShadowSettings(interface=interface, subnet=subnet, site=site, bus=bus)
    try:
        summary = asyncio.run(_until_signalled(settings))
    except ShadowError as error:
        raise Failure(MACHINE, str(error)) from error
    if summary is None:
        return OK
    json_line({"summary": summary})
    differ = sum(summary.differences.values())
    say(f"{summary.compared} answers to {summary.clients} clients: {summary.equal} are equal, {differ} differences")
    return NO if differ else OK


async def _until_signalled(settings: ShadowSettings) -> Summary | None:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)

    def ready() -> None:
        say(f"listening on {settings.interface}")

    def report(found: Found) -> None:
        json_line(found)

    return await run(settings, stop=stop, ready=ready, report=report)
