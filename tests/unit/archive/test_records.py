"""Files of log messages: read as they were written, and never taken for whole when they are not."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from dnms.archive.records import ArchiveError, Encoder, Header, LogFile
from dnms.bus.port import Record

HEADER = Header("here", "0f" * 16, 7)
RECORDS = [
    Record(f"dnms.here.ledger.{'é' * n}", 7 + n, 1_772_366_400_000_000 + n, bytes([n]) * n * 40) for n in range(6)
]


def encoded(header: Header, records: Sequence[Record]) -> bytes:
    encoder = Encoder(header)
    return b"".join([encoder.begin(), *map(encoder.message, records), encoder.end()])


def read(path: Path) -> tuple[Header, list[Record]]:
    file = LogFile(path)
    return file.header, list(file.messages())


@pytest.mark.parametrize("records", [RECORDS, []], ids=["some", "none"])
def test_what_is_read_is_what_was_written(tmp_path: Path, records: list[Record]) -> None:
    path = tmp_path / "log"
    path.write_bytes(encoded(HEADER, records))
    assert read(path) == (HEADER, records)


def test_a_flipped_bit_is_noticed_or_changes_nothing_wherever_it_is(tmp_path: Path) -> None:
    """It changes nothing in gzip's own header, and where deflate leaves a bit unused."""
    whole, path = encoded(HEADER, RECORDS), tmp_path / "log"
    harmless = 0
    for place in range(len(whole)):
        for bit in range(8):
            path.write_bytes(whole[:place] + bytes([whole[place] ^ 1 << bit]) + whole[place + 1 :])
            try:
                found = read(path)
            except ArchiveError:
                continue
            assert found == (HEADER, RECORDS), (place, bit)
            harmless += 1
    assert harmless < len(whole)  # of eight times as many


def test_a_file_that_ends_too_early_or_too_late_is_noticed(tmp_path: Path) -> None:
    whole, path = encoded(HEADER, RECORDS), tmp_path / "log"
    for content in (*(whole[:length] for length in range(len(whole))), whole + whole, whole + b"more"):
        path.write_bytes(content)
        with pytest.raises(ArchiveError, match="log messages"):
            read(path)


def test_a_gap_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(encoded(HEADER, [RECORDS[0], RECORDS[2]]))
    with pytest.raises(ArchiveError, match="9 follows 7"):
        read(path)


def test_another_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text("version = 1\n")
    with pytest.raises(ArchiveError, match="no file of log messages"):
        LogFile(path)
