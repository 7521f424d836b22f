"""The bus's disk is full for 20 s while nodes join: that is said, nothing is lost, and all goes on by itself.

The subnet is strict: agents give nothing that the log does not have.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import msgspec

from dnms.bus.embedded import MIN_FREE
from dnms.lab.lab import Lab, Outcome
from dnms.lab.outage import expect_lines, live_through
from dnms.lab.site import NAME
from dnms.lab.steps import Stage
from dnms.lab.verdict import verdict

DISK = MIN_FREE + (32 << 20)  # bytes: the bus starts, and has room for any lab's log
CHUNK = bytes(1 << 16)


async def run(lab: Lab) -> Outcome:
    """LabError where it cannot go on."""
    async with Stage.built(lab, disk=DISK) as stage:
        stage.network.addressing = msgspec.structs.replace(stage.network.addressing, strict=True)
        await stage.site.apply(stage.network.addressing.plan(NAME))
        await live_through(stage, _full(stage))
        expect_lines(stage, "lab", "the embedded nats-server ended", "is full", "was started again")
        for agent in stage.network.agents:
            expect_lines(stage, agent.name, "connection to the bus lost", "connection to the bus is back")
        return await verdict(stage, "disk")


@asynccontextmanager
async def _full(stage: Stage) -> AsyncGenerator[None, None]:
    """To the last byte: the bus finds that out by itself, and may be writing."""
    server = stage.site.server
    restarts = server.restarts
    ballast = server.directory / "ballast"
    try:
        _fill(ballast)
        yield
        if server.pid is not None:
            stage.wrong.append("the bus still runs, with a disk that is full")
    finally:
        ballast.unlink()
    await stage.site.wait_for_restart(after=restarts)


def _fill(path: Path) -> None:
    with path.open("wb", buffering=0) as file, suppress(OSError):
        while file.tell() < DISK:
            file.write(CHUNK)
