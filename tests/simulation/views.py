"""The views of a simulated log: real projections in a real SQLite file, against a naive fold of the same commits."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Sequence
from pathlib import Path

from dnms.events.commit import Stored
from dnms.projections import PROJECTIONS, files, naive
from dnms.projections.comparison import compare
from dnms.projections.store import Store
from dnms.projections.views import Views
from tests.simulation.plans import SITE

MEMORY = Path("/dev/shm")  # a file in memory: thousands of them are written, and none has to outlive a power cut


def wrong_in_views(stored: Sequence[Stored]) -> list[str]:
    """Where the views differ from a naive fold."""
    with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as directory:
        path = Path(directory) / "views.db"
        file = files.fresh(path)
        store = Store.create(file, PROJECTIONS, site=SITE, log_id="log")
        middle = len(stored) // 2
        store.fold(stored[:middle], caught_up=False)
        store.fold(stored[middle:], caught_up=True)
        store.close()
        files.publish(path, file)
        return asyncio.run(_differences(stored, path))


async def _differences(stored: Sequence[Stored], path: Path) -> list[str]:
    views = Views(path)
    try:
        async with views.read() as reading:
            return await compare(naive.fold(stored), reading)
    finally:
        await views.close()
