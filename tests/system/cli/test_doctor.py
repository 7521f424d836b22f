"""`dnms doctor` on this machine, and on this machine with something hidden."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

DNMS = Path(sys.executable).parent / "dnms"


def run(*words: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*words], capture_output=True, text=True, check=False)


def hidden(program: str, *words: str | Path) -> subprocess.CompletedProcess[str]:
    """Run a command where a program cannot be executed: mounted over, in a mount namespace that ends with it."""
    path = shutil.which(program)
    assert path
    return run("unshare", "--mount", "sh", "-c", 'mount --bind /dev/null "$0" && exec "$@"', path, *words)


def checks(output: str) -> dict[str, dict[str, Any]]:
    return {check["name"]: check for check in json.loads(output)["checks"]}


def test_nothing_is_missing_where_the_tests_run() -> None:
    done = run(DNMS, "doctor", "--output", "json")
    assert done.returncode == 0, done.stdout
    assert json.loads(done.stdout)["ok"]
    assert all(check["ok"] and not check["get"] for check in checks(done.stdout).values())
    assert "nats-server" in checks(done.stdout)["nats-server"]["found"]


@pytest.mark.parametrize(
    ("program", "package"), [("radvd", "radvd"), ("bridge", "iproute2"), ("nft", "nftables"), ("setpriv", "util-linux")]
)
def test_a_missing_program_is_named_with_its_package(program: str, package: str) -> None:
    done = hidden(program, DNMS, "doctor", "--output", "json")
    assert done.returncode == 1, done.stderr
    missing = {name: check for name, check in checks(done.stdout).items() if not check["ok"]}
    assert list(missing) == [package]
    assert missing[package]["get"].startswith(f"apt-get install {package}")
    assert program in missing[package]["get"]


def test_people_are_told_the_one_command_that_gets_all() -> None:
    done = hidden("radvd", DNMS, "doctor")
    assert done.returncode == 1
    assert "MISSING" in done.stdout
    assert "dnms doctor --install  (radvd)" in done.stdout


def test_without_ip_namespaces_are_as_they_are() -> None:
    before = checks(run(DNMS, "doctor", "-o", "json").stdout)["namespaces"]
    done = hidden("ip", DNMS, "doctor", "-o", "json")
    assert done.returncode == 1
    found = checks(done.stdout)
    assert not found["iproute2"]["ok"]
    assert found["namespaces"] == before
