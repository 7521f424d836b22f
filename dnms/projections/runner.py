"""The one writer of the views: follows everything on the log and folds it, a batch a transaction, on its own thread."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TypeVar

import structlog

from dnms.bus.port import Log, LogDamaged, LogForked, Unavailable
from dnms.bus.reading import Commits, Position, learn_forgotten, read_opened
from dnms.events.codec import UnknownToThisRelease
from dnms.events.commit import Stored
from dnms.events.node import NodeForgotten
from dnms.events.subjects import everything
from dnms.projections import PROJECTIONS, files
from dnms.projections.files import ViewsError
from dnms.projections.projection import Projection
from dnms.projections.store import Store

MAX_EVENTS = 20_000
"""In one transaction: enough that many events of one node come together, few enough to be held in memory."""

PAUSE = 1.0  # seconds between two attempts to reach the log
AGAIN = 0.1  # seconds between two attempts to stop what runs

T = TypeVar("T")

log_events = structlog.get_logger(__name__)


class Writer:
    """A store with the thread that it lives on."""

    def __init__(self, thread: ThreadPoolExecutor, store: Store) -> None:
        self._thread = thread
        self.store = store

    async def fold(self, batch: Sequence[Stored], *, caught_up: bool) -> None:
        """Fold a batch, in as few transactions as MAX_EVENTS allows."""
        parts = list(_parts(batch)) or [batch]
        for part in parts:
            await self.call(partial(self.store.fold, part, caught_up=caught_up and part is parts[-1]))

    async def call(self, function: Callable[[], T]) -> T:
        """Run `function` on the store's thread."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, function)


@asynccontextmanager
async def opened(make: Callable[[], Store]) -> AsyncGenerator[Writer, None]:
    """A store that `make` opens on a thread of its own, and that is closed there. ViewsError where SQLite fails."""
    loop = asyncio.get_running_loop()
    with ThreadPoolExecutor(1, thread_name_prefix="views") as thread:
        try:
            store = await loop.run_in_executor(thread, make)
        except (sqlite3.Error, OSError) as error:
            raise ViewsError(f"cannot open the views: {error}") from error
        try:
            yield Writer(thread, store)
        finally:
            closed = asyncio.ensure_future(loop.run_in_executor(thread, store.close))
            while not closed.done():
                store.interrupt()  # again: what a fold does between two statements goes on, and the next one begins
                await asyncio.wait({closed}, timeout=AGAIN)


class _Forgotten(Exception):
    """The views have something personal of a node that is forgotten now."""


class Runner:
    """Keeps the views at `path` up with the log of a site."""

    def __init__(self, log: Log, path: Path, *, site: str, projections: Sequence[Projection] = PROJECTIONS) -> None:
        self._log = log
        self._path = path
        self._site = site
        self._projections = projections
        self._anew = False  # the file in use is not to be used any more

    async def run(self, stop: asyncio.Event) -> None:
        """Fold until `stop` is set, or until the log cannot be trusted: then the views say that they stopped, and why.

        ViewsError if the views cannot be written. What a fold raises beside that is a defect, and is raised on.
        """
        with files.writing(self._path):
            while not stop.is_set():
                try:
                    await self._run(stop)
                    return
                except _Forgotten:
                    # Whatever any of them has of it, in whatever form: another file never had it.
                    log_events.info("views are rebuilt, since a node is forgotten", path=str(self._path))
                    self._anew = True

    async def _run(self, stop: asyncio.Event) -> None:
        async with opened(self._open) as writer:
            folding = asyncio.ensure_future(self._fold(writer))
            stopping = asyncio.ensure_future(stop.wait())
            try:
                await asyncio.wait({folding, stopping}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                stopping.cancel()
                folding.cancel()
                with suppress(asyncio.CancelledError):
                    await folding

    def _open(self) -> Store:
        files.sweep(self._path)
        file = files.current(self._path)
        if file is not None and not self._anew:
            with suppress(sqlite3.DatabaseError):  # what cannot be read is folded anew
                store = Store(file, self._projections)
                if store.usable:
                    return store
                store.close()
            log_events.info("views are rebuilt", path=str(self._path))
        return Store.create(files.fresh(self._path), self._projections, site=self._site, log_id=self._log.log_id)

    async def _fold(self, writer: Writer) -> None:
        try:
            while True:
                try:
                    await self._follow(writer)
                except Unavailable as error:
                    log_events.warning("views wait for the log", error=str(error))
                    await asyncio.sleep(PAUSE)
        except LogForked as error:
            await self._stop(writer, error.why, error)
        except LogDamaged as error:
            await self._stop(writer, error.why, error, advice=f"; {error.advice}")
        except UnknownToThisRelease as error:
            await self._stop(writer, "unknown-to-this-release", error)
        except (sqlite3.Error, OSError) as error:
            await self._stop(writer, "storage", error)
            raise ViewsError(f"cannot write {self._path}: {error}") from error
        except _Forgotten:
            raise
        except Exception as error:
            await self._stop(writer, "fold-failed", error)
            raise

    async def _follow(self, writer: Writer) -> None:
        store = writer.store
        known = store.position.sequence or await learn_forgotten(self._log, self._site)
        read = read_opened(self._log, [everything(self._site)], after=store.position)
        async with aclosing(read), aclosing(gathered(read)) as batches:
            async for batch in batches:
                if any(stored.sequence > known and _forgets(stored) for stored in batch.stored):
                    raise _Forgotten
                await writer.fold(batch.stored, caught_up=batch.caught_up)
                if batch.caught_up and files.current(self._path) != store.file:
                    files.publish(self._path, store.file)

    async def _stop(self, writer: Writer, why: str, error: Exception, *, advice: str = "") -> None:
        log_events.error("views stopped", why=why, error=str(error), position=writer.store.position.sequence)
        with suppress(sqlite3.Error, OSError):  # a full disk may refuse this too; it is logged above
            await writer.call(lambda: writer.store.stop(why, f"{error}{advice}"))
            files.publish(self._path, writer.store.file)


async def rebuild(log: Log, path: Path, *, site: str, projections: Sequence[Projection] = PROJECTIONS) -> Position:
    """Fold the whole log into another file and put it in the place of the one in use; return how far it goes.

    ViewsBusy while another process writes the views. What is wrong with the log is raised, and the old file stays.
    """
    with files.writing(path):
        file = files.fresh(path)
        try:
            async with opened(lambda: Store.create(file, projections, site=site, log_id=log.log_id)) as writer:
                await fold_all(log, site, writer)
                files.publish(path, file)
                return writer.store.position
        except sqlite3.Error as error:
            raise ViewsError(f"cannot write {file}: {error}") from error
        finally:
            files.sweep(path)


async def fold_all(log: Log, site: str, writer: Writer, *, until: int | None = None) -> None:
    """Fold the log from its beginning up to the sequence `until`, or to its end as it is met."""
    await learn_forgotten(log, site)
    read = read_opened(log, [everything(site)])
    async with aclosing(read), aclosing(gathered(read)) as batches:
        async for batch in batches:
            stored = [one for one in batch.stored if until is None or one.sequence <= until]
            done = batch.caught_up or (until is not None and writer.store.position.sequence + len(stored) >= until)
            await writer.fold(stored, caught_up=done)
            if done:
                return


async def gathered(read: AsyncGenerator[Commits, None]) -> AsyncGenerator[Commits, None]:
    """The same commits in batches of MAX_EVENTS where more are stored already: a log sends a megabyte at a time."""
    waiting: list[Stored] = []
    events = 0
    async for batch in read:
        waiting += batch.stored
        events += sum(len(stored.commit.events) for stored in batch.stored)
        if batch.caught_up or events >= MAX_EVENTS:
            yield Commits(tuple(waiting), batch.caught_up)
            waiting, events = [], 0


def _forgets(stored: Stored) -> bool:
    return any(isinstance(event, NodeForgotten) and event.personal for event in stored.commit.events)


def _parts(batch: Sequence[Stored]) -> Iterator[Sequence[Stored]]:
    first = events = 0
    for index, stored in enumerate(batch):
        if index > first and events + len(stored.commit.events) > MAX_EVENTS:
            yield batch[first:index]
            first, events = index, 0
        events += len(stored.commit.events)
    if batch:
        yield batch[first:]
