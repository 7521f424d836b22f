"""A bus that is stopped under a subscriber that follows it: what is missing comes back, and nothing goes."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

from structlog.testing import capture_logs

from dnms.bus.embedded import EmbeddedServer
from dnms.subscribers.runner import NOT_REACHED
from tests.netns.subscribers.conftest import Machine, until
from tests.system.bus.conftest import TOKEN
from tests.system.subscribers.test_damage import opened, runner, write


def test_while_the_bus_does_not_answer_it_mends_and_does_not_drop(machine: Machine, tmp_path: Path) -> None:
    async def work() -> None:
        async with EmbeddedServer(tmp_path / "log", token=TOKEN) as server, opened(server, "s0") as log:
            await write(log)
            stop, running = asyncio.Event(), runner(log, tmp_path / "state")
            task = asyncio.create_task(running.run(stop))
            await running.settled.wait()
            before = machine.sets()
            assert server.pid is not None
            os.kill(server.pid, signal.SIGSTOP)
            try:
                machine.nft("flush set inet dnms sales-6; add element inet dnms sales-4 { 198.51.100.1 }")
                with capture_logs() as said:
                    await until(lambda: NOT_REACHED in [line.get("why") for line in said])
                    await until(lambda: machine.sets()["sales-6"] == before["sales-6"])
                assert machine.sets()["sales-4"] == before["sales-4"] | {"198.51.100.1"}
            finally:
                os.kill(server.pid, signal.SIGCONT)
            await until(lambda: machine.sets() == before)
            stop.set()
            await task
            assert not running.counts.failed

    machine.run(work)
