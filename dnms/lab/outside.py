"""The lab as the machine sees it: checks what it needs, starts it in namespaces of its own, and cleans up after it."""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from dnms.lab.network import MAX_AGENTS, MAX_NODES
from dnms.linux import isolation
from dnms.linux.namespaces import search_path

PASSED, FAILED, USAGE, CANNOT = 0, 1, 2, 3
"""Exit codes: all went as it should; something did not; wrong arguments; this machine lacks something."""

SIGNALLED = 128  # and the number of the signal that stopped it

_NEEDED = {"ip": "iproute2", "radvd": "radvd", "unshare": "util-linux"}
"""Programs, and the Debian packages that bring them."""


def run(scenario: str, *, nodes: int, agents: int, output: str) -> int:
    """Run a scenario and print what came of it to stdout, as `table` or `json`; the exit code.

    Progress goes to stderr. Logs and state lie in a temporary directory, which is kept, and named, if the run failed.
    """
    if not (1 <= nodes <= MAX_NODES and 1 <= agents <= MAX_AGENTS):
        return _complain(f"the lab has 1 to {MAX_NODES} nodes and 1 to {MAX_AGENTS} Subnet Agents", USAGE)
    lacking = [package for program, package in _NEEDED.items() if shutil.which(program, path=search_path()) is None]
    if lacking:
        return _complain(f"the lab needs {', '.join(lacking)}; `dnms doctor` says how to get it", CANNOT)
    try:
        words = isolation.wrapper()
    except isolation.NoIsolation as error:
        return _complain(f"{error}; `dnms doctor` says more", CANNOT)
    started = time.monotonic()
    folder = Path(tempfile.mkdtemp(prefix="dnms-lab-"))
    inside = [sys.executable, "-P", "-m", "dnms.lab.inside", scenario, str(nodes), str(agents), output]
    code = isolation.run(words, [*inside, str(folder), repr(started)])
    if code == PASSED or code > SIGNALLED:
        shutil.rmtree(folder, ignore_errors=True)
        return code
    print(f"dnms: the lab failed; logs are in {folder}", file=sys.stderr)
    return FAILED


def main(arguments: Sequence[str]) -> int:
    """`run SCENARIO [--nodes N] [--agents K] [-o table|json]` or `list`; the exit code."""
    from dnms.lab import SCENARIOS  # noqa: PLC0415  # this module is a part of that one

    parser = argparse.ArgumentParser(prog="dnms lab", description="A network of namespaces on this machine.")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("list", help="the scenarios")
    running = commands.add_parser("run", help="run a scenario")
    running.add_argument("scenario", choices=sorted(SCENARIOS))
    running.add_argument("--nodes", type=int, default=20)
    running.add_argument("--agents", type=int, default=2, help="Subnet Agents")
    running.add_argument("-o", "--output", choices=("table", "json"), default="table")
    chosen = parser.parse_args(arguments)
    if chosen.command == "list":
        for name, about in SCENARIOS.items():
            print(f"{name:<12} {about}")
        return PASSED
    return run(chosen.scenario, nodes=chosen.nodes, agents=chosen.agents, output=chosen.output)


def _complain(text: str, code: int) -> int:
    print(f"dnms: {text}", file=sys.stderr)
    return code
