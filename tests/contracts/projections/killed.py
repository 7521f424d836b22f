"""A rebuild that is killed: `python -m tests.contracts.projections.killed PATH MOMENT`, with a moment of MOMENTS."""

from __future__ import annotations

import asyncio
import importlib
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dnms.bus.memory import MemoryLog
from dnms.projections import building, files, runner, store
from dnms.projections.example import SITE
from tests.contracts.projections.logs import memory_log, write

BATCH = 5  # events
TIMES = 6
EXAMPLES_OF = ("addresses", "history", "link", "nodes", "pools", "prefixes", "configurations", "rollouts")


async def long_log() -> MemoryLog:
    """One of many batches, with rows for all kinds of tables."""
    log = memory_log()
    for folder in EXAMPLES_OF * TIMES:
        for example in importlib.import_module(f"dnms.projections.{folder}.examples").EXAMPLES:
            await write(log, *example.log)
    return log


def die(*_: object) -> int:
    """As the kernel does to a process that takes too much memory."""
    os.kill(os.getpid(), signal.SIGKILL)
    return 1


def _instead(of: Any, name: str, function: Callable[..., Any]) -> None:
    setattr(of, name, function)


def _folding() -> None:
    """Amid a batch, when others before it are not committed yet."""
    move, folded = store.Store._move, [0]

    def moved(self: Any, *rest: Any) -> None:
        move(self, *rest)
        folded[0] += 1
        if folded[0] > 20 and self._waiting:
            die()

    _instead(store.Store, "_move", moved)


def _at(statement: str, number: int = 1, *, after: int = 0) -> Callable[[], None]:
    """At a statement of those that put the file in order; `after` so many steps of SQLite's machine."""

    def arm() -> None:
        settle, met = building.Aside.settle, [0]

        def settled(self: Any) -> None:
            def trace(text: str) -> None:
                met[0] += text.startswith(statement)
                if met[0] == number:
                    self._db.set_progress_handler(die, after) if after else die()

            self._db.set_trace_callback(trace)
            settle(self)

        _instead(building.Aside, "settle", settled)

    return arm


MOMENTS: dict[str, Callable[[], None]] = {
    "it folds": _folding,
    "the first table is made anew": _at("CREATE TABLE"),
    "the first table is sorted": _at("INSERT OR REPLACE INTO main.", after=200),
    "the last tables are sorted": _at("INSERT OR REPLACE INTO main.", 15, after=200),
    "all is sorted": _at("DETACH"),
    "an index is made": _at("CREATE INDEX"),
    "others can read it": _at("PRAGMA journal_mode"),
    "it is to take the place of the one in use": lambda: _instead(Path, "replace", die),
    "it has taken that place": lambda: _instead(files, "sweep", die),
}


async def main(path: Path, moment: str) -> None:
    """Rebuild the views at `path`, as far as it goes."""
    log = await long_log()
    MOMENTS[moment]()
    runner.MAX_EVENTS = BATCH
    await runner.rebuild(log, path, site=SITE)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2]))
