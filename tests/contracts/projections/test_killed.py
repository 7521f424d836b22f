"""A process that is killed while it builds views: those in use stay, and nothing of it is left once somebody writes."""

from __future__ import annotations

import asyncio
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest

from dnms.bus.memory import MemoryLog
from dnms.events.commit import Stored
from dnms.projections import PROJECTIONS, files, runner
from dnms.projections.example import SITE
from dnms.projections.projection import Projection
from dnms.projections.runner import rebuild
from dnms.projections.store import Store
from dnms.projections.views import Views
from tests.contracts.projections.conftest import Running
from tests.contracts.projections.killed import MOMENTS, long_log
from tests.contracts.projections.logs import tables

PATIENCE = 30.0  # seconds; a loaded machine


@pytest.fixture
async def log() -> MemoryLog:
    return await long_log()


def killed(path: Path, moment: str) -> None:
    """A process of its own rebuilds the views, and is killed."""
    words = [sys.executable, "-m", "tests.contracts.projections.killed", str(path), moment]
    ended = subprocess.run(words, check=False, timeout=PATIENCE, capture_output=True, text=True)
    assert ended.returncode == -signal.SIGKILL, ended.stderr


def names(path: Path) -> set[str]:
    """What lies there beside the file in use and what belongs to it."""
    file = files.current(path)
    assert file is not None
    theirs = {path.name, f"{path.name}.lock", file.name, f"{file.name}-wal", f"{file.name}-shm"}
    return {one.name for one in path.parent.iterdir()} - theirs


@pytest.mark.parametrize("moment", MOMENTS)
async def test_the_views_in_use_stay_and_what_was_begun_is_swept(
    path: Path, views: Views, running: Running, log: MemoryLog, moment: str
) -> None:
    await rebuild(log, path, site=SITE)
    whole, before = tables(path), files.current(path)
    killed(path, moment)
    assert names(path)  # else it was killed too late
    assert (files.current(path) == before) == (moment != "it has taken that place")
    assert tables(path) == whole
    async with running(log):
        assert await views.reached(len(log.records), within=PATIENCE)
    assert tables(path) == whole
    assert not names(path)


@pytest.mark.parametrize("moment", ["it folds", "the first table is sorted"])
async def test_where_there_were_no_views_they_are_begun_anew(
    path: Path, views: Views, running: Running, log: MemoryLog, moment: str
) -> None:
    killed(path, moment)
    assert (await views.status()).state == "missing"
    assert list(path.parent.glob("*-aside"))
    async with running(log):
        assert await views.reached(len(log.records), within=PATIENCE)
    assert not names(path)
    followed = tables(path)
    await rebuild(log, path, site=SITE)
    assert tables(path) == followed


@pytest.mark.parametrize("deleted", range(6))
def test_who_is_killed_while_it_sweeps_leaves_what_is_found_again(
    path: Path, deleted: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    unlink, left = Path.unlink, [deleted]

    def unlinked(file: Path, *, missing_ok: bool = False) -> None:
        if file.name.startswith("views.db.0"):
            if not left[0]:
                raise Killed
            left[0] -= 1
        unlink(file, missing_ok=missing_ok)

    for part in ("", "-wal", "-shm", "-journal", "-aside", "-aside-journal"):
        path.with_name(f"views.db.0123abcd{part}").write_bytes(b"half")
    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", unlinked)
        with pytest.raises(Killed):
            files.sweep(path)
    assert list(path.parent.iterdir())
    files.sweep(path)
    assert not list(path.parent.iterdir())


async def test_who_is_to_stop_does_not_wait_for_what_is_sorted(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However far it was when it heard of it: what it does in Python nobody can interrupt."""
    interrupted, loop, began = threading.Event(), asyncio.get_running_loop(), asyncio.Event()
    interrupt, failed = Store.interrupt, list[str]()

    def interrupts(store: Store) -> None:
        interrupt(store)
        interrupted.set()

    def long(cursor: sqlite3.Cursor, batch: Sequence[Stored]) -> None:
        loop.call_soon_threadsafe(began.set)
        assert interrupted.wait(PATIENCE)
        try:
            cursor.execute(
                "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 20000000) SELECT max(i) FROM n"
            )
        except sqlite3.OperationalError as error:
            failed.append(str(error))
            raise

    monkeypatch.setattr(Store, "interrupt", interrupts)
    slow = Projection(name="slow", version=1, schema="", fold=long)
    stop = asyncio.Event()
    log = await long_log()
    task = asyncio.create_task(runner.Runner(log, path, site=SITE, projections=(*PROJECTIONS, slow)).run(stop))
    async with asyncio.timeout(PATIENCE):
        await began.wait()
        stop.set()
        await task
    assert failed == ["interrupted"]
