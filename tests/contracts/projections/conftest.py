"""A runner over a log in memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest

from dnms.bus.port import Log
from dnms.projections import PROJECTIONS
from dnms.projections.example import SITE
from dnms.projections.runner import Runner
from dnms.projections.views import Views
from tests.contracts.projections.logs import folder

Running = Callable[..., AbstractAsyncContextManager[asyncio.Task[None]]]


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """In memory: on a disk most of the time of these tests is waiting for it."""
    with folder() as directory:
        yield directory


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "views.db"


@pytest.fixture
async def views(path: Path) -> AsyncIterator[Views]:
    opened = Views(path)
    yield opened
    await opened.close()


@pytest.fixture
def running(path: Path) -> Running:
    """Runs a runner for as long as the context lasts, and raises what it raised."""

    @asynccontextmanager
    async def run(log: Log, projections=PROJECTIONS) -> AsyncIterator[asyncio.Task[None]]:  # type: ignore[no-untyped-def]
        stop = asyncio.Event()
        task = asyncio.create_task(Runner(log, path, site=SITE, projections=projections).run(stop))
        try:
            yield task
        finally:
            stop.set()
            await task

    return run
