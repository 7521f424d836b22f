"""A machine that serves a link."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.netns.migration.machine import Machine


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    if os.geteuid() != 0:
        pytest.skip("needs root, to make network namespaces")
    made = Machine(tmp_path)
    try:
        yield made
    finally:
        made.close()
