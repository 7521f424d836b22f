"""A real Subnet Agent: how long its start takes, and what it holds then."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from bench.agent_side import AGENT, SUBNET
from bench.processes import Memory, cpu_seconds, memory, running
from dnms.disk.site import Site

READY_WITHIN = 300.0  # seconds
LOOK = 0.01  # seconds between two looks whether it is ready
IDLE = 2.0  # seconds in which what its start has begun comes to its end


class Start(msgspec.Struct, frozen=True):
    """One start of a server."""

    seconds: float  # from the start of its process until it serves
    cpu: float  # seconds that it has used until then, and in a moment after it
    memory: Memory
    peak: int  # bytes; the most that was resident at once


class Agent(msgspec.Struct, frozen=True):
    """A start from the log, a clean end, and starts from what it kept."""

    from_log: Start
    stop_seconds: float
    again: Start  # the median one of several
    kept: int  # bytes in its state directory, of files that are named snapshot-…; 0: it keeps none


async def agent(site: Site, bus: str, folder: Path, interface: str, *, again: int) -> Agent:
    """Start it with an empty state directory, end it, and start it again and again with the same one."""
    state = folder / "state"
    command = (
        *(sys.executable, "-m", "dnms.agents.subnet", "--interface", interface, "--subnet", SUBNET, "--name", AGENT),
        *("--site", str(site.path), "--state", str(state), "--bus", bus),
    )

    async def once(number: int) -> tuple[Start, float]:
        log = folder / f"agent-{number}.log"
        start, ended = await started(*command, log=log, ready=lambda: "serving" in log.read_text())
        return start, ended

    first, stop_seconds = await once(0)
    later = [(await once(number + 1))[0] for number in range(again)]
    kept = sum(file.stat().st_size for file in state.glob("snapshot-*"))
    middle = sorted(later, key=lambda start: start.seconds)[len(later) // 2]
    return Agent(from_log=first, stop_seconds=stop_seconds, again=middle, kept=kept)


async def started(
    *command: str, log: Path, ready: Callable[[], bool], environment: dict[str, str] | None = None
) -> tuple[Start, float]:
    """Start a server, look at it when it is ready, and end it; how many seconds its end took too. RuntimeError."""
    begin = time.perf_counter()
    with running(*command, log=log, environment=environment) as process:
        await _until(ready, process, log)
        seconds = time.perf_counter() - begin
        await asyncio.sleep(IDLE)
        start = Start(seconds, cpu_seconds(process.pid), memory(process.pid), _peak(process.pid))
        ending = time.perf_counter()
    return start, time.perf_counter() - ending


async def _until(ready: Callable[[], bool], process: subprocess.Popen[bytes], log: Path) -> None:
    try:
        async with asyncio.timeout(READY_WITHIN):
            while not ready():
                if process.poll() is not None:
                    raise RuntimeError(f"it ended with {process.returncode}:\n{_end_of(log)}")
                await asyncio.sleep(LOOK)
    except TimeoutError:
        raise RuntimeError(f"not ready within {READY_WITHIN:.0f} s:\n{_end_of(log)}") from None


def _end_of(log: Path) -> str:
    return log.read_text()[-2_000:]


def _peak(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("VmHWM:"))
