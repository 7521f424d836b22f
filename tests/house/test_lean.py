"""What runs on every machine takes in no more than it needs."""

from __future__ import annotations

import subprocess
import sys

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


def test_the_node_agent_imports_nothing_heavy() -> None:
    program = "import sys, dnms.cli, dnms.agents.node.__main__; print(*sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    modules = {module.partition(".")[0] for module in done.stdout.split()}
    assert "dnms" in modules
    assert not modules & set(HEAVY)
