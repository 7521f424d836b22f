"""The lab as the machine sees it: checks what it needs, starts it in namespaces of its own, and cleans up after it."""

from __future__ import annotations

import argparse
import errno
import os
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

NODES = 20
_FEWER = {"mixed": 10}
"""Nodes, where nobody says how many: in `mixed` there are three other machines for each."""

_NEEDED = {"ip": "iproute2", "radvd": "radvd", "unshare": "util-linux"}
"""Programs, and the Debian packages that bring them."""


def run(scenario: str, *, nodes: int | None, agents: int, output: str, keep: Path | None = None) -> int:
    """Run a scenario and print what came of it to stdout, as `table` or `json`; the exit code.

    Without a number of nodes it has NODES, or, where a scenario has other machines for each, fewer.

    Progress goes to stderr. Logs, state and the site's directory lie in a temporary directory, which is kept, and
    named, if the run failed; or in `keep`, which must be empty or not there, and is kept however it ends.
    """
    nodes = _FEWER.get(scenario, NODES) if nodes is None else nodes
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
    try:
        folder = Path(tempfile.mkdtemp(prefix="dnms-lab-")) if keep is None else _emptied(keep)
    except OSError as error:
        return _complain(f"cannot keep anything in {keep}: {error.strerror or error}", USAGE)
    inside = [sys.executable, "-P", "-m", "dnms.lab.inside", scenario, str(nodes), str(agents), output]
    code = isolation.run(words, [*inside, str(folder), repr(started)])
    if code == PASSED or code > SIGNALLED:
        if keep is None:
            shutil.rmtree(folder, ignore_errors=True)
        elif code == PASSED:
            print(f"dnms: {_left_in(folder / 'site')}", file=sys.stderr)
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
    running.add_argument("--nodes", type=int)
    running.add_argument("--agents", type=int, default=2, help="Subnet Agents")
    running.add_argument("-o", "--output", choices=("table", "json"), default="table")
    running.add_argument("--keep", type=Path, metavar="DIRECTORY", help="keep logs, state and the site there")
    chosen = parser.parse_args(arguments)
    if chosen.command == "list":
        for name, about in SCENARIOS.items():
            print(f"{name:<12} {about}")
        return PASSED
    return run(chosen.scenario, nodes=chosen.nodes, agents=chosen.agents, output=chosen.output, keep=chosen.keep)


def _emptied(folder: Path) -> Path:
    """The directory, which has nothing in it; OSError. Absolute, since agents may work elsewhere."""
    folder = folder.absolute()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise FileExistsError(errno.ENOTEMPTY, os.strerror(errno.ENOTEMPTY))
    return folder


def _left_in(site: Path) -> str:
    """What can be done with what a lab left. The bus of one scenario had a disk that ended with the lab."""
    if not any(site.glob("log/jetstream")):
        return f"its logs and views are kept in {site.parent}; its bus had a disk of its own, which is gone"
    return f"its site is kept: `dnms serve --site {site}`, then any question with `--site {site}`"


def _complain(text: str, code: int) -> int:
    print(f"dnms: {text}", file=sys.stderr)
    return code
