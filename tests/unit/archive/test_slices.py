"""Slices that are not what they should be."""

from __future__ import annotations

import gzip
import hashlib
from pathlib import Path

import pytest

from dnms.archive.records import ArchiveError
from dnms.archive.slices import MAGIC, MESSAGE, STATE, Header, Writer, header, records
from dnms.bus.port import Record

HEADER = Header(site="here", log_id="one", first=5, pseudonymised=False)


def written(path: Path, *sequences: int) -> Path:
    with path.open("wb") as file:
        writer = Writer(file, HEADER)
        writer.add(STATE, Record("dnms.here.plan", 4, 1, b"state"))
        for sequence in sequences:
            writer.add(MESSAGE, Record("dnms.here.plan", sequence, 2, b"message"))
        writer.end()
    return path


def test_it_is_read_as_it_was_written(tmp_path: Path) -> None:
    path = written(tmp_path / "slice", 5, 6)
    assert header(path) == HEADER
    assert [(kind, record.sequence) for kind, record in records(path)] == [(STATE, 4), (MESSAGE, 5), (MESSAGE, 6)]


def test_a_gap_is_damage(tmp_path: Path) -> None:
    with pytest.raises(ArchiveError, match="7 follows 5"):
        list(records(written(tmp_path / "slice", 5, 7)))


def test_one_without_even_a_header_is_damaged(tmp_path: Path) -> None:
    path = tmp_path / "slice"
    path.write_bytes(gzip.compress(MAGIC + bytes(4) + hashlib.sha256(MAGIC).digest()))
    for read in (header, lambda file: list(records(file))):
        with pytest.raises(ArchiveError, match="is damaged"):
            read(path)


def test_every_bit_counts(tmp_path: Path) -> None:
    content = gzip.decompress(written(tmp_path / "slice", 5).read_bytes())
    path = tmp_path / "flipped"
    for place in range(len(content)):
        path.write_bytes(gzip.compress(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]))
        with pytest.raises(ArchiveError):
            list(records(path))
