"""What is read of a server's log while the server writes it."""

from __future__ import annotations

from pathlib import Path

import pytest

from dnms.bus.server_log import MOST, FailedWrites

FAILED = (
    "[1] [ERR] JetStream failed to store a msg on stream '$G > DNMS_here': write /log/1.blk: no space left on device"
)
OTHER = "[1] [INF] Server is ready"
WHY = "write /log/1.blk: no space left on device"


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "nats-server.log"


def say(log: Path, text: str) -> None:
    with log.open("a") as file:
        file.write(text)


def test_only_what_is_said_after_the_beginning_counts_and_that_once(log: Path) -> None:
    say(log, f"{FAILED}\n")
    writes = FailedWrites(log)
    assert writes.newest() == ""
    say(log, f"{OTHER}\n{FAILED}\n{OTHER}\n")
    assert [writes.newest(), writes.newest()] == [WHY, ""]


def test_half_a_line_is_read_when_it_is_whole(log: Path) -> None:
    writes = FailedWrites(log)
    say(log, FAILED[:30])
    assert writes.newest() == ""
    say(log, f"{FAILED[30:]}\n")
    assert writes.newest() == WHY


def test_a_log_that_is_begun_anew_is_read_from_its_beginning(log: Path) -> None:
    say(log, f"{OTHER}\n" * 100)
    writes = FailedWrites(log)
    log.write_text(f"{FAILED}\n")
    assert writes.newest() == WHY


def test_the_end_of_a_long_log_is_enough(log: Path) -> None:
    writes = FailedWrites(log)
    say(log, f"{OTHER}\n" * (2 * MOST // len(OTHER)) + f"{FAILED}\n")
    assert writes.newest() == WHY


def test_a_log_that_is_away_says_nothing(log: Path) -> None:
    assert FailedWrites(log).newest() == ""
