"""The store of an embedded bus that is not served, to be looked at or replaced."""

from __future__ import annotations

import fcntl
import shutil
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

from dnms.bus.embedded import EmbeddedServer, EmbeddedServerError
from dnms.bus.last_on_disk import last_on_disk
from dnms.bus.unfinished import remove_unfinished


@asynccontextmanager
async def served_copy(directory: Path, copy: Path, *, site: str, token: str) -> AsyncGenerator[tuple[str, int], None]:
    """The bus that serves a copy of the store, since a server cuts off what it finds unreadable.

    And up to where the store's files go, before anything was cut off. The copy is made anew, and removed.
    EmbeddedServerError, OSError.
    """
    shutil.rmtree(copy, ignore_errors=True)
    try:
        shutil.copytree(directory, copy)
        remove_unfinished(copy)  # nobody was told of that one
        last = last_on_disk(copy, site)
        async with EmbeddedServer(copy, token=token) as server:
            yield server.url, last
    finally:
        shutil.rmtree(copy, ignore_errors=True)


@contextmanager
def unserved(directory: Path) -> Iterator[None]:
    """Hold the lock of the store's server, if there is a store, so that none starts meanwhile."""
    if not directory.is_dir():
        yield
        return
    with (directory / "lock").open("ab") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise EmbeddedServerError(f"a nats-server serves {directory}; stop `dnms serve` first") from None
        yield
