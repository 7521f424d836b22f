"""What runs on every machine takes in no more than it needs."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = [
    "aiosqlite",
    "cyclopts",
    "cryptography",
    "httpx",
    "jeepney",
    "litestar",
    "nats",
    "pyroute2",
    "rich",
    "sqlite3",
    "uvloop",
]


@pytest.mark.parametrize(("agent", "needs"), [("node", set()), ("relay", {"cryptography"})])
def test_what_is_on_every_machine_or_router_imports_nothing_heavy(agent: str, needs: set[str]) -> None:
    program = f"import sys, dnms.cli, dnms.agents.{agent}.__main__; print(*sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    modules = {module.partition(".")[0] for module in done.stdout.split()}
    assert "dnms" in modules
    assert modules & set(HEAVY) == needs
