"""The command line. One file a command group; no decision is made here.

A file here asks a part below it and shows what it said. `exits` has the exit codes, `foreseen` the errors that have a
clear line, `rendering` all that is printed, `asking` where questions go.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence

AGENTS = {
    "node-agent": "dnms.agents.node.__main__",
    "relay": "dnms.agents.relay.__main__",
    "subnet-agent": "dnms.agents.subnet.__main__",
}
"""Commands with entry points of their own: machines start them at boot, without what the other commands import."""


def main(arguments: Sequence[str] | None = None) -> int:
    """The console script `dnms`; the exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words and words[0] in AGENTS:
        code: int = importlib.import_module(AGENTS[words[0]]).main(words[1:])
        return code
    from dnms.cli.app import run  # noqa: PLC0415  # the agents must start without it

    return run(words)
