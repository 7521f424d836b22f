"""What holds for every test: it leaves nothing behind, and in CI a test that needs the kernel is never skipped."""

from __future__ import annotations

import asyncio
import ctypes
import inspect
import os
import shutil
import signal
import tempfile
import time
from collections.abc import AsyncIterator, Generator, Iterator, Set
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

TESTS = Path(__file__).parent
KERNEL = {"netns", "peers", "system"}
"""Folders of tests that need root and a real kernel: CI does not let them be skipped."""

QUIET = {"unit", "properties", "house", "simulation"}
"""Folders of tests that start nothing that could be left behind; the search for it would be half of their time."""

PATIENCE = 5.0  # seconds in which what a test has ended must be gone

MEMORY = Path("/dev/shm")  # a file system in memory
ROOM = 2 << 30  # bytes that must be free there: the tests of two workers leave some hundred megabytes

if "TMPDIR" not in os.environ and MEMORY.is_dir() and shutil.disk_usage(MEMORY).free >= ROOM:
    # Agents, views and nats-server sync all that they write, and no test cuts the power: on a disk that others use too
    # they would wait for it most of the time. The workers and all programs that tests start inherit this.
    os.environ["TMPDIR"] = str(MEMORY)
    tempfile.tempdir = None  # it is looked up once

settings.register_profile("dnms", deadline=None)  # a loaded machine is not a defect
settings.load_profile("dnms")

PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h


def folder(path: Path) -> str:
    """The folder of `tests` that a test is in; empty outside of them."""
    return path.relative_to(TESTS).parts[0] if path.is_relative_to(TESTS) else ""


# --- nothing is skipped that CI relies on


def _refuses_skips(path: Path) -> bool:
    return os.environ.get("CI") == "true" and folder(path) in KERNEL


def _reason(longrepr: object) -> str:
    return str(longrepr[2]) if isinstance(longrepr, tuple) else str(longrepr)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Turn a skip into a failure where CI relies on the test."""
    report = yield
    if report.skipped and not hasattr(report, "wasxfail") and _refuses_skips(item.path):
        report.outcome = "failed"
        report.longrepr = f"CI needs this test, and it was skipped: {_reason(report.longrepr)}"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """The same for a file that is skipped as a whole."""
    report = yield
    if report.skipped and _refuses_skips(collector.path):
        report.outcome = "failed"
        report.longrepr = f"CI needs these tests, and they were skipped: {_reason(report.longrepr)}"
    return report


# --- nothing is left behind

Process = tuple[int, int]
"""Pid and start time: a pid alone is used again."""


def _adopt_orphans() -> None:
    """Become the parent of all that the tests start and whose parent ends, so that it is found too (prctl(2)).

    A mark in the environment would not do: a process in the middle of an exec has none.
    """
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")


def _processes() -> dict[Process, str]:
    """All living processes that the tests of this worker have started, with their command lines."""
    found: dict[int, tuple[Process, int, str]] = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            state, parent, *rest = (entry / "stat").read_text().rpartition(") ")[2].split()
            command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
        except OSError:  # it has ended meanwhile
            continue
        if state != "Z":
            pid = int(entry.name)
            found[pid] = ((pid, int(rest[17])), int(parent), command)
    ours: dict[Process, str] = {}
    for pid, (process, _, command) in found.items():
        ancestor = pid
        while ancestor in found and ancestor != os.getpid():
            ancestor = found[ancestor][1]
        if ancestor == os.getpid() != pid:
            ours[process] = command
    return ours


def _namespaces() -> set[tuple[str, str]]:
    """Namespaces that this process holds by a descriptor, and the network that it is in."""
    held = {("in", str(Path("/proc/thread-self/ns/net").readlink()))}
    for descriptor in Path("/proc/self/fd").iterdir():
        try:
            target = str(descriptor.readlink())
        except OSError:  # that of this very directory
            continue
        if target.startswith(("net:[", "mnt:[", "user:[", "/run/netns/")):
            held.add((descriptor.name, target))
    return held


class WiderFixtures:
    """Remembers what the fixtures of a module or of the session start: it outlives the test that first asked for it.

    A plugin of its own, since hooks in a conftest.py are not called for the fixtures of the session.
    """

    def __init__(self) -> None:
        self.processes: set[Process] = set()
        self.namespaces: set[tuple[str, str]] = set()

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef: pytest.FixtureDef[Any]) -> Generator[None, Any, Any]:
        """See what is there before such a fixture and after it."""
        if fixturedef.scope == "function":
            return (yield)
        processes, namespaces = _processes(), _namespaces()
        try:
            return (yield)
        finally:
            self.processes.update(_processes().keys() - processes.keys())
            self.namespaces.update(_namespaces() - namespaces)


WIDER_FIXTURES = pytest.StashKey[WiderFixtures]()


def pytest_configure(config: pytest.Config) -> None:
    """Register the plugin, and see to orphans."""
    _adopt_orphans()
    config.stash[WIDER_FIXTURES] = WiderFixtures()
    config.pluginmanager.register(config.stash[WIDER_FIXTURES])


def _wait_until_gone(before: Set[Process], excused: Set[Process] = frozenset()) -> None:
    """Wait until no process is left that is neither of `before` nor `excused`; end those that are, and fail."""
    until = time.monotonic() + PATIENCE
    while left := {p: command for p, command in _processes().items() if p not in before and p not in excused}:
        if time.monotonic() > until:
            for pid, _ in left:
                os.kill(pid, signal.SIGKILL)
            pytest.fail(f"left behind: {', '.join(f'process {pid}: {command}' for (pid, _), command in left.items())}")
        time.sleep(0.02)


@pytest.fixture(scope="session", autouse=True)
def no_process_is_left_at_the_end() -> Iterator[None]:
    """The fixtures of modules and of the session have ended what they started."""
    before = set(_processes())
    yield
    _wait_until_gone(before)


@pytest.fixture(autouse=True)
def nothing_is_left(request: pytest.FixtureRequest) -> Iterator[None]:
    """A test and its fixtures end every task, process and namespace that they start."""
    if inspect.iscoroutinefunction(getattr(request.node, "function", None)):
        request.getfixturevalue("no_task_is_left")
    if folder(request.path) in QUIET:
        yield
        return
    wider = request.config.stash[WIDER_FIXTURES]
    processes, namespaces = set(_processes()), _namespaces()
    yield
    _wait_until_gone(processes, wider.processes)
    left = _namespaces() - namespaces - wider.namespaces
    assert not left, f"left open, or entered and not left: {left}"


@pytest.fixture
async def no_task_is_left() -> AsyncIterator[None]:
    """An asynchronous test and its fixtures end every task that they start."""
    yield
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    if tasks:
        _, left = await asyncio.wait(tasks, timeout=PATIENCE)
        assert not left, f"left behind: {left}"
