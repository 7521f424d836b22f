"""The lab as its own machine sees it: the first process in namespaces of its own, which runs one scenario.

Everything is imported here before the nursery is forked, so that the agents need not import it once more. Standard
input ends when the lab should stop, see `dnms.linux.isolation.run`.
"""

from __future__ import annotations

import asyncio
import importlib
import os
import resource
import signal
import sys
import time
import traceback
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TextIO

import msgspec
from rich.console import Console

from dnms.kit import logging
from dnms.kit.tables import WIDE
from dnms.lab.lab import Lab, LabError, Outcome
from dnms.lab.nursery import Nursery
from dnms.lab.outside import FAILED, PASSED
from dnms.lab.progress import Display

DEADLINE = 120.0
DEADLINE_PER_NODE = 1.0
"""Seconds for a whole run. Each step has its own deadline; this one catches what those forgot."""

STDIN = 0


def main(arguments: list[str]) -> int:
    """Run the scenario that the arguments of `outside.run` name; the exit code."""
    scenario, nodes, agents, output, folder, started = arguments
    # The first process of a PID namespace gets no signal that it has no handler for; and a Ctrl-C on the terminal is
    # to reach nobody in here but by way of the standard input.
    os.setsid()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))  # two a node, and 1 024 is a usual limit
    module = importlib.import_module(f"dnms.lab.scenarios.{scenario.replace('-', '_')}")
    answer, screen = _keep_output(Path(folder) / "lab.log")
    logging.configure()
    nursery = Nursery()
    with Display(screen) as display:
        lab = Lab(
            nodes=int(nodes),
            agents=int(agents),
            folder=Path(folder),
            nursery=nursery,
            display=display,
            seconds=lambda: time.monotonic() - float(started),
        )
        deadline = DEADLINE + DEADLINE_PER_NODE * lab.nodes
        try:
            outcome = asyncio.run(_until_stopped(module.run(lab), deadline))
        except _Stopped:
            display.line("stopped")
            return FAILED
        except TimeoutError:
            display.line(f"not done within {deadline:.0f} s")
            return FAILED
        except LabError as error:
            for line in str(error).splitlines():
                display.line(line)
            return FAILED
        except Exception as error:
            traceback.print_exc()  # into the log
            display.line(f"broken: {type(error).__name__}: {error}")
            return FAILED
        finally:
            nursery.close()
    if output == "json":
        print(msgspec.json.encode(outcome.report).decode(), file=answer)
    else:
        console = Console(file=answer, width=None if answer.isatty() else WIDE)
        for table in outcome.tables:
            console.print(table)
    answer.flush()
    for line in outcome.wrong:
        display.line(line)
    return PASSED if outcome.passed else FAILED


class _Stopped(Exception):
    """Somebody outside wants it to stop."""


def _keep_output(log: Path) -> tuple[TextIO, TextIO]:
    """Stdout and stderr for the lab's answer and progress alone; what anything else in here prints goes to the log."""
    answer, screen = os.fdopen(os.dup(1), "w"), os.fdopen(os.dup(2), "w")
    with log.open("ab") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    return answer, screen


async def _until_stopped(scenario: Coroutine[Any, Any, Outcome], deadline: float) -> Outcome:
    task = asyncio.ensure_future(scenario)
    stopped = False

    def stop() -> None:
        nonlocal stopped
        stopped = True
        asyncio.get_running_loop().remove_reader(STDIN)
        task.cancel()

    asyncio.get_running_loop().add_reader(STDIN, stop)
    try:
        async with asyncio.timeout(deadline):
            return await task
    except asyncio.CancelledError:
        if stopped:
            raise _Stopped from None
        raise


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
