"""The import contracts of pyproject.toml hold, and fail where they should."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from tests.house.tree import ROOT

VIOLATIONS = {
    "dnms/events/address.py": "import dnms.domain.aggregate",
    "dnms/agents/__init__.py": "import dnms.api",
    "dnms/agents/relay/passing.py": "import dnms.bus.port",
    "dnms/subscribers/runner.py": "import dnms.agents",
    "dnms/bus/port.py": "import pyroute2",
    "dnms/wire/messages.py": "import socket",
    "dnms/linux/__init__.py": "import sqlite3",
    "dnms/domain/aggregate.py": "def later():\n    import nats",
    "dnms/kit/clock.py": "import asyncio",
    "dnms/linux/resolver.py": "import jeepney",
}
"""An import for each contract that forbids it."""


def lint(folder: Path) -> tuple[int, str]:
    done = subprocess.run(
        [Path(sys.executable).parent / "lint-imports", "--no-cache"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def copy(folder: Path) -> None:
    shutil.copytree(ROOT / "dnms", folder / "dnms", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", folder)


def test_the_contracts_hold() -> None:
    code, output = lint(ROOT)
    assert code == 0, output


def test_every_contract_can_be_broken(tmp_path: Path) -> None:
    copy(tmp_path)
    for path, line in VIOLATIONS.items():
        with (tmp_path / path).open("a") as file:
            file.write(f"\n{line}\n")
    code, output = lint(tmp_path)
    assert code == 1
    assert " 0 kept" in output, output
    broken = output.partition("Broken contracts")[2]
    for importer, line in VIOLATIONS.items():
        imported = line.rpartition(" ")[2]
        assert f"{importer.removesuffix('.py').removesuffix('/__init__').replace('/', '.')} -> {imported}" in broken, (
            output
        )


def test_a_new_package_needs_its_layer(tmp_path: Path) -> None:
    copy(tmp_path)
    (tmp_path / "dnms" / "newcomer").mkdir()
    (tmp_path / "dnms" / "newcomer" / "__init__.py").write_text('"""New."""\n')
    code, output = lint(tmp_path)
    assert code == 1
    assert "newcomer" in output
