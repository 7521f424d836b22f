"""The API is as it describes itself: schemathesis asks everything, with what is right and what is wrong."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import httpx
import pytest

from dnms.api import freshness
from tests.system.api.conftest import TOKEN, Served
from tests.system.api.test_api import PLAN

SCHEMATHESIS = Path(sys.executable).parent / "schemathesis"
SECONDS = 20  # of asking; more finds more
LONGEST = 120.0  # seconds; a loaded machine

CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "negative_data_rejection",
    "missing_required_header",
    "unsupported_method",
    "ignored_auth",
)


async def test_the_api_is_as_described(
    served: Served, api: httpx.AsyncClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stream does not end, and is asked in tests of its own. Nobody waits for what is not in the log."""
    monkeypatch.setattr(freshness, "PATIENCE", 0.0)
    assert (await api.post("/plan", json=PLAN)).status_code == 200
    process = await asyncio.create_subprocess_exec(
        SCHEMATHESIS,
        "run",
        f"{served.url}/schema/openapi.json",
        "--checks",
        ",".join(CHECKS),
        "--exclude-path",
        "/api/v1/events/stream",
        "--phases",
        "examples,coverage,fuzzing",
        "--max-examples",
        "8",
        "--max-time",
        str(SECONDS),
        "--seed",
        "1",
        "--header",
        f"Authorization: Bearer {TOKEN}",
        cwd=tmp_path,  # it keeps what it found in the directory where it runs
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        async with asyncio.timeout(LONGEST):
            said, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0, said.decode()
