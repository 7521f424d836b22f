"""Answers that may be older than the log, and who asks hears it."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from dnms.bus import jetstream
from dnms.bus.append import append
from dnms.cli.exits import INTERRUPTED, NO, OK
from dnms.disk.site import Site
from dnms.events import codec
from dnms.events.commit import Commit
from dnms.events.ip import parse_address
from dnms.events.seen import SessionOpened
from tests.system.cli.conftest import ALPHA, NAME, PATIENCE, PLAN, Served, dnms, serving
from tests.system.cli.test_site import Tail

STOPPED = "dnms: the views have stopped ("


@pytest.fixture
def own(tmp_path: Path, plan: Path) -> Iterator[Served]:
    """A site of this test's own, since it damages it."""
    site = tmp_path / "site"
    assert dnms("init", NAME, "--site", site).code == OK
    with serving(site) as served:
        assert dnms("plan", "apply", plan, environment=served.environment).code == OK
        yield served


def damage(served: Served) -> None:
    """Store a commit that follows none: readers see that others are missing before it, and stop."""

    async def stored() -> None:
        site = Site.load(served.directory)
        log = await jetstream.connect(served.bus, site.name, token=site.bus_token)
        event = SessionOpened(client=ALPHA, peer=parse_address("fe80::a"))
        commit = Commit(
            id=os.urandom(16), time=time.time_ns() // 1_000, predecessor=7, actor="agent/x", events=(event,)
        )
        try:
            await append(log, f"dnms.{site.name}.seen.office.x", codec.encode(commit), expected=0)
        finally:
            await log.close()

    asyncio.run(stored())


@contextmanager
def halted(pid: int) -> Iterator[None]:
    """The children of a process, which stand still meanwhile."""
    children = [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    assert children
    for child in children:
        os.kill(child, signal.SIGSTOP)
    try:
        yield
    finally:
        for child in children:
            os.kill(child, signal.SIGCONT)


def until_stopped(served: Served) -> None:
    deadline = time.monotonic() + PATIENCE
    while STOPPED not in dnms("pool", "list", environment=served.environment).err:
        assert time.monotonic() < deadline


def test_views_that_have_stopped(own: Served, tmp_path: Path) -> None:
    tails = [Tail(own, tmp_path), Tail(own, tmp_path, "--data", str(own.directory))]
    try:
        for tail in tails:
            tail.hears(own)
        damage(own)
        for tail in tails:
            assert tail.stderr.readline().startswith(STOPPED)
    finally:
        assert [tail.stop() for tail in tails] == [INTERRUPTED, INTERRUPTED]
    until_stopped(own)
    nobody = dnms("who-had", "192.0.2.9", environment=own.environment)
    assert nobody.code == NO
    warned, said = nobody.err.splitlines()
    assert warned.startswith(STOPPED)
    assert said.startswith("dnms: nobody had 192.0.2.9")
    assert dnms("who-had", "192.0.2.9", "--data", own.directory).err == nobody.err
    other = tmp_path / "other.toml"
    other.write_text(PLAN.replace("0x5a1e", "0x5a1f"))
    applied = dnms("plan", "apply", other, environment=own.environment)
    assert applied.code == OK
    assert applied.err.startswith("dnms: it is in the log; the views have stopped (")


def test_a_log_that_cannot_be_reached(own: Served) -> None:
    assert dnms("pool", "list", environment=own.environment).err == ""
    with halted(own.pid):
        asked = dnms("pool", "list", environment=own.environment)
    assert asked.code == OK
    assert "may be behind the log, which cannot be reached now" in asked.err
