"""Log lines go to stderr alone; stdout is for what was asked."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
import structlog

from dnms.kit import logging


@pytest.fixture(autouse=True)
def configuration() -> Iterator[None]:
    yield
    structlog.reset_defaults()


def test_a_line_of_json_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    logging.configure(json=True)
    structlog.get_logger().info("node joined", node="n1")
    out, err = capsys.readouterr()
    line = json.loads(err)
    assert out == ""
    assert (line["event"], line["node"], line["level"]) == ("node joined", "n1", "info")
    assert line["timestamp"].endswith("Z")


@pytest.mark.parametrize(("verbose", "shown"), [(False, False), (True, True)])
def test_details_on_request_only(capsys: pytest.CaptureFixture[str], verbose: bool, shown: bool) -> None:
    logging.configure(verbose=verbose)
    structlog.get_logger().debug("a detail")
    assert ("a detail" in capsys.readouterr().err) == shown
