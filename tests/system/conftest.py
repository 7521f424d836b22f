"""What commands are forked from."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.system import commands

PATIENCE = 120.0  # seconds; it says nothing of DNMS, and all tests of a worker fail with it


@pytest.fixture(scope="session", autouse=True)
def ready(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with commands.ready(tmp_path_factory.mktemp("commands") / "socket", within=PATIENCE):
        yield
