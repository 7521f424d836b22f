"""The command line of every benchmark: a table for people, or JSON."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import msgspec

R = TypeVar("R", bound=msgspec.Struct)


def main(
    name: str,
    about: str,
    measure: Callable[[], Coroutine[Any, Any, R]],
    show: Callable[[R], None],
    *,
    loop: Callable[[], asyncio.AbstractEventLoop] | None = None,
) -> None:
    """Measure on this kind of event loop, and print."""
    parser = argparse.ArgumentParser(prog=f"python -m bench.{name}", description=about)
    parser.add_argument("-o", "--output", choices=("table", "json"), default="table")
    output = parser.parse_args().output
    with asyncio.Runner(loop_factory=loop) as runner:
        report = runner.run(measure())
    if output == "json":
        sys.stdout.write(msgspec.json.format(msgspec.json.encode(report), indent=2).decode() + "\n")
    else:
        show(report)
