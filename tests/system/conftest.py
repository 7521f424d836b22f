"""What commands are forked from."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.system import commands

PATIENCE = 30.0  # seconds; a loaded machine


@pytest.fixture(scope="session", autouse=True)
def ready(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with commands.ready(tmp_path_factory.mktemp("commands") / "socket", within=PATIENCE):
        yield
