"""The checks of tests/conftest.py fail where they should: pytest runs them over small tests in a folder of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CONFTEST = ROOT / "tests" / "conftest.py"
PYPROJECT = ROOT / "pyproject.toml"

LEAVES_A_TASK = """
import asyncio
_kept = []
async def test_it():
    _kept.append(asyncio.create_task(asyncio.Event().wait()))
"""
LEAVES_A_PROCESS = """
import subprocess
_kept = []
def test_it():
    _kept.append(subprocess.Popen(["sleep", "1000"]))
"""
LEAVES_AN_ORPHAN = """
import subprocess
def test_it():
    subprocess.run(["sh", "-c", "setsid sleep 1000 > /dev/null 2>&1 &"], check=True)
"""
FINDS_AN_ORPHAN = """
import os, signal, subprocess, sys
from pathlib import Path
CONFTEST = str(Path(__file__).parents[1] / "conftest.py")
def test_it():
    # It has no parent any more, and begins a program all the time; then it has no environment for a moment.
    forever = 'exec sh -c "$0" "$0"'
    subprocess.run(["sh", "-c", 'setsid sh -c "$0" "$0" > orphan & echo $! > pid', forever], check=True)
    pid = int(Path("pid").read_text())
    conftest = next(each for each in sys.modules.values() if getattr(each, "__file__", None) == CONFTEST)
    try:
        for _ in range(300):
            assert pid in {found for found, _ in conftest._processes()}
    finally:
        os.kill(pid, signal.SIGKILL)
"""
LEAVES_A_NAMESPACE = """
import os
def test_it():
    os.open("/proc/self/ns/net", os.O_RDONLY)
"""
FIXTURE_OF_THE_SESSION = """
import subprocess, pytest
_kept = []
@pytest.fixture(scope="session")
def server():
    process = subprocess.Popen(["sleep", "1000"])
    yield process
    {end}
    _kept.append(process)
@pytest.fixture(params=["server"])
def indirect(request):
    return request.getfixturevalue(request.param)
def test_it(indirect):
    assert indirect.poll() is None
def test_other(indirect):
    assert indirect.poll() is None
"""
SKIPS = """
import pytest
@pytest.mark.skipif(True, reason="no radvd here")
def test_it(): ...
"""
SKIPS_INSIDE = """
import pytest
def test_it():
    pytest.skip("no radvd here")
"""
SKIPS_THE_FILE = """
import pytest
pytest.skip("no radvd here", allow_module_level=True)
"""


def run(tmp_path: Path, files: dict[str, str], *, ci: bool = False) -> tuple[int, str]:
    """Pytest's exit code and output over these files of a folder `tests`, under the real conftest."""
    for name, source in files.items():
        test = tmp_path / "tests" / name
        test.parent.mkdir(parents=True, exist_ok=True)
        test.write_text(source)
    (tmp_path / "tests" / "conftest.py").write_text(CONFTEST.read_text().replace("PATIENCE = 5.0", "PATIENCE = 0.2"))
    shutil.copy(PYPROJECT, tmp_path)
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("PYTEST_", "CI"))}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--continue-on-collection-errors"],
        env=environment | ({"CI": "true"} if ci else {}),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def test_what_a_test_leaves_behind_fails_it(tmp_path: Path) -> None:
    files = {
        "unit/test_task.py": LEAVES_A_TASK,
        "netns/test_process.py": LEAVES_A_PROCESS,
        "contracts/test_orphan.py": LEAVES_AN_ORPHAN,
        "netns/test_namespace.py": LEAVES_A_NAMESPACE,
    }
    code, output = run(tmp_path, files)
    assert code == 1, output
    for name in files:
        assert f"ERROR tests/{name}::test_it - " in output, output


def test_an_orphan_is_found_whatever_it_is_doing(tmp_path: Path) -> None:
    code, output = run(tmp_path, {"unit/test_orphan.py": FINDS_AN_ORPHAN})
    assert code == 0, output


def test_a_fixture_of_the_session_may_outlive_the_test_that_first_asked_for_it(tmp_path: Path) -> None:
    code, output = run(
        tmp_path, {"system/test_fixture.py": FIXTURE_OF_THE_SESSION.format(end="process.kill(); process.wait()")}
    )
    assert code == 0, output
    assert "2 passed" in output


def test_a_fixture_of_the_session_ends_what_it_starts(tmp_path: Path) -> None:
    code, output = run(tmp_path, {"system/test_fixture.py": FIXTURE_OF_THE_SESSION.format(end="")})
    assert code == 1, output
    assert "2 passed, 1 error" in output
    assert "left behind: process" in output


SKIPPING = {"test_mark.py": SKIPS, "test_inside.py": SKIPS_INSIDE, "test_file.py": SKIPS_THE_FILE}


def test_ci_refuses_a_skip_where_it_relies_on_the_test(tmp_path: Path) -> None:
    folders = ("netns", "peers", "system")
    files = {f"{folder}/{name}": source for folder in folders for name, source in SKIPPING.items()}
    code, output = run(tmp_path, files, ci=True)
    assert code == 1, output
    for name in files:
        assert f" tests/{name}" in output.partition("short test summary")[2], output
    assert "skipped in" not in output
    assert "no radvd here" in output


@pytest.mark.parametrize(("folder", "ci"), [("netns", False), ("unit", True)])
def test_elsewhere_a_skip_stays_a_skip(tmp_path: Path, folder: str, ci: bool) -> None:
    code, output = run(tmp_path, {f"{folder}/{name}": source for name, source in SKIPPING.items()}, ci=ci)
    assert "3 skipped in" in output
    assert code in (0, 5), output
