"""A snapshot is all of what was written, or it is not used."""

from __future__ import annotations

import asyncio
import stat
from pathlib import Path

import pytest

from dnms.disk import snapshot
from dnms.disk.snapshot import SnapshotError, SnapshotFile
from tests.unit.disk.test_atomic import full_after

SMALL, LARGE = b"small part", [b"first buffer", b"", b"second"]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "agent" / "snapshot-office.dnms"


@pytest.fixture
def written(path: Path) -> bytes:
    write(path, SMALL, LARGE)
    return path.read_bytes()


def write(path: Path, small: bytes, large: list[bytes]) -> None:
    asyncio.run(SnapshotFile(path).write(small, large))


def read(path: Path) -> tuple[bytes, bytes] | None:
    parts = SnapshotFile(path).read()
    return None if parts is None else (bytes(parts[0]), bytes(parts[1]))


def test_it_is_read_as_it_was_written(path: Path, written: bytes) -> None:
    assert read(path) == (SMALL, b"first buffersecond")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_the_newest_counts(path: Path, written: bytes) -> None:
    write(path, b"newer", [])
    assert read(path) == (b"newer", b"")


def test_none_is_none(path: Path) -> None:
    assert read(path) is None


def test_whatever_is_torn_off_it_is_noticed(path: Path, written: bytes) -> None:
    for length in range(len(written)):
        path.write_bytes(written[:length])
        with pytest.raises(SnapshotError, match=r"empty|beginning|torn"):
            read(path)


def test_a_flipped_bit_is_noticed(path: Path, written: bytes) -> None:
    for place in range(len(written)):
        path.write_bytes(written[:place] + bytes([written[place] ^ 1]) + written[place + 1 :])
        with pytest.raises(SnapshotError, match=r"no snapshot|another release|torn"):
            read(path)


def test_that_of_another_release_is_not_used(path: Path, written: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshot, "_HEAD", snapshot.MAGIC + (snapshot.FORMAT + 1).to_bytes(4) + bytes(17))
    with pytest.raises(SnapshotError, match="another release"):
        read(path)


def test_a_full_disk_leaves_the_old_one(path: Path, written: bytes) -> None:
    with full_after(100), pytest.raises(SnapshotError, match=f"cannot write the snapshot {path}"):
        write(path, SMALL, [bytes(1000)])
    assert path.read_bytes() == written


def test_what_a_killed_process_left_is_removed(path: Path, written: bytes) -> None:
    scratch = path.with_name(f".{path.name}.4711")
    scratch.write_bytes(b"half of one")
    assert read(path) is not None
    assert list(path.parent.iterdir()) == [path]


def test_what_cannot_be_read_is_said(path: Path) -> None:
    path.mkdir(parents=True)
    with pytest.raises(SnapshotError, match="cannot read"):
        read(path)
