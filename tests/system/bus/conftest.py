"""A nats-server for each test, since these tests kill and freeze it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from dnms.bus.embedded import EmbeddedServer

TOKEN = "3e8-not a number"


@pytest.fixture
def token() -> str:
    return TOKEN


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[EmbeddedServer]:
    async with EmbeddedServer(tmp_path / "log", token=TOKEN) as running:
        yield running
