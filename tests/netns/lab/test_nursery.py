"""Processes that the nursery forks: real ones, in their namespaces, that leave, crash and are killed."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from dnms.lab.nursery import Nursery, NurseryError, resolv_conf
from dnms.linux.namespaces import Namespace

DEADLINE = 10.0
RESOLV_CONF = Path("/etc/resolv.conf")
LOOP = 6  # descriptors of an event loop: epoll, a pair each for waking and for signals, and the one that lists them


class Settings(NamedTuple):
    report: Path
    crash: bool = False


def network() -> str:
    return str(Path("/proc/thread-self/ns/net").readlink())


def write_report(report: Path) -> None:
    RESOLV_CONF.write_text("nameserver 2001:db8::53\n")
    descriptors = len(list(Path("/proc/self/fd").iterdir()))
    report.with_suffix(".new").write_text(f"{network()}\n{os.getpid()}\n{descriptors}\n")
    report.with_suffix(".new").rename(report)


async def agent(settings: Settings, *, stop: asyncio.Event) -> None:
    """Writes down where it is, and waits."""
    write_report(settings.report)
    if settings.crash:
        raise RuntimeError("as it was told")
    await stop.wait()


@pytest.fixture
def namespace() -> Iterator[Namespace]:
    with Namespace.create("test") as namespace:
        yield namespace


@pytest.fixture
async def nursery() -> AsyncIterator[Nursery]:
    nursery = Nursery()
    yield nursery
    nursery.close()


def lines_of(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


async def written(path: Path) -> list[str]:
    async with asyncio.timeout(DEADLINE):
        while not (lines := lines_of(path)):  # noqa: ASYNC110  # another process writes it
            await asyncio.sleep(0.005)
    return lines


async def test_it_runs_in_its_namespace_with_a_resolv_conf_of_its_own(
    nursery: Nursery, namespace: Namespace, tmp_path: Path
) -> None:
    ours = lines_of(RESOLV_CONF)
    process = await nursery.fork("one", agent, Settings(tmp_path / "report"), namespace=namespace, folder=tmp_path)
    its_network, pid, descriptors = await written(tmp_path / "report")
    with namespace.entered():
        assert its_network == network()
    assert int(pid) == process.pid
    assert resolv_conf(tmp_path, "one") == RESOLV_CONF
    assert (tmp_path / "one.resolv.conf").read_text() == "nameserver 2001:db8::53\n"
    assert lines_of(RESOLV_CONF) == ours
    assert int(descriptors) <= 3 + LOOP, "it has inherited descriptors"
    process.signal(signal.SIGTERM)
    assert await asyncio.wait_for(process.wait(), DEADLINE) == 0


async def test_a_crash_is_told_and_logged(nursery: Nursery, namespace: Namespace, tmp_path: Path) -> None:
    process = await nursery.fork(
        "one", agent, Settings(tmp_path / "report", crash=True), namespace=namespace, folder=tmp_path
    )
    assert await asyncio.wait_for(process.wait(), DEADLINE) == 1
    assert process.last_line() == "RuntimeError: as it was told"


async def test_kill_9_ends_one_and_not_the_others(nursery: Nursery, namespace: Namespace, tmp_path: Path) -> None:
    one, two = [
        await nursery.fork(name, agent, Settings(tmp_path / f"{name}.report"), namespace=namespace, folder=tmp_path)
        for name in ("one", "two")
    ]
    await written(tmp_path / "two.report")
    one.signal(signal.SIGKILL)
    assert await asyncio.wait_for(one.wait(), DEADLINE) == -signal.SIGKILL
    one.signal(signal.SIGKILL)  # whoever has this pid now is left alone
    assert two.exit_code is None
    assert await nursery.stop_all(deadline=DEADLINE) == []
    assert two.exit_code == 0


async def test_the_end_of_the_nursery_ends_its_processes(
    nursery: Nursery, namespace: Namespace, tmp_path: Path
) -> None:
    process = await nursery.fork("one", agent, Settings(tmp_path / "report"), namespace=namespace, folder=tmp_path)
    await written(tmp_path / "report")
    watched = os.pidfd_open(process.pid)
    try:
        ended = asyncio.Event()
        asyncio.get_running_loop().add_reader(watched, ended.set)
        os.kill(nursery.pid, signal.SIGKILL)
        await asyncio.wait_for(ended.wait(), DEADLINE)
        assert await asyncio.wait_for(process.wait(), DEADLINE) == -signal.SIGKILL
        with pytest.raises(NurseryError, match="gone"):
            await nursery.fork("two", agent, Settings(tmp_path / "two"), namespace=namespace, folder=tmp_path)
    finally:
        asyncio.get_running_loop().remove_reader(watched)
        os.close(watched)
