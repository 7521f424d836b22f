"""The API of a site, served on loopback over a log in memory that has something to tell."""

from __future__ import annotations

import asyncio
import hashlib
import os
import socket
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path

import httpx
import msgspec
import pytest

from dnms.api import Ledgers, create_app, serve_api
from dnms.bus.committer import Committer
from dnms.bus.memory import MemoryLog
from dnms.bus.reading import read
from dnms.disk.certificates import issue, issue_signer
from dnms.disk.signing import Signer
from dnms.domain.aggregate import Fold
from dnms.domain.plan import PlanState
from dnms.events import subjects
from dnms.kit.clock import SystemClock
from dnms.projections.addresses.examples import EXAMPLES as LEASES
from dnms.projections.example import SITE
from dnms.projections.nodes.examples import EXAMPLES as NODES
from dnms.projections.runner import Runner
from dnms.projections.views import Views
from tests.contracts.projections.logs import write

SECRET = b"s" * 32
TOKEN = "a-token-of-the-api"
PATIENCE = 20.0  # seconds; a loaded machine


class Served(msgspec.Struct):
    """A served API, with what lies under it."""

    url: str
    log: MemoryLog
    views: Views
    path: Path
    stop: asyncio.Event


def client_id(duid: bytes) -> bytes:
    """As a site hashes it."""
    return hashlib.blake2b(duid, key=SECRET, digest_size=16).digest()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    clock = SystemClock()
    log = MemoryLog(SITE, log_id="one", now=clock.now)
    await write(log, *LEASES[2].log, *NODES[0].log, *LEASES[4].log)
    committer = Committer(
        log,
        subjects.plan(SITE),
        Fold(PlanState()),
        actor="operator/test",
        now=clock.now,
        random=os.urandom,
    )
    stop = asyncio.Event()
    path = tmp_path / "views.db"
    views = Views(path)
    ledgers = Ledgers(
        log,
        site=SITE,
        secret=SECRET,
        client_id=client_id,
        actor="operator/test",
        now=clock.now,
        random=os.urandom,
    )
    signing = issue_signer(issue(SITE)[0])
    app = create_app(
        site=SITE,
        views=views,
        log=log,
        plan_committer=committer,
        ledgers=ledgers,
        token=TOKEN,
        signer=lambda: Signer(signing.key, signing.certificate),
    )
    port = free_port()

    async def follow() -> None:
        async with aclosing(read(log, [subjects.plan(SITE)])) as batches:
            async for batch in batches:
                for stored in batch.stored:
                    committer.take(stored)

    background = [
        asyncio.create_task(committer.run()),
        asyncio.create_task(ledgers.run()),
        asyncio.create_task(follow()),
    ]
    folding = asyncio.create_task(Runner(log, path, site=SITE).run(stop))
    serving = asyncio.create_task(serve_api(app, "127.0.0.1", port, stop))
    try:
        assert await views.reached(len(log.records), within=PATIENCE)
        yield Served(f"http://127.0.0.1:{port}/api/v1", log, views, path, stop)
    finally:
        stop.set()
        for task in background:
            task.cancel()
        await asyncio.gather(*background, return_exceptions=True)
        await asyncio.gather(folding, serving)
        await views.close()


@pytest.fixture
async def api(served: Served) -> AsyncIterator[httpx.AsyncClient]:
    headers = {"Authorization": f"Bearer {TOKEN}"}
    async with httpx.AsyncClient(base_url=served.url, headers=headers, timeout=PATIENCE, trust_env=False) as client:
        yield client
