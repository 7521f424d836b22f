"""An archive's directory: complete after a crash at any step, and never taken for whole when it is not."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from dnms.archive import segments
from dnms.archive.records import ArchiveError
from dnms.archive.segments import MANIFEST, Archive, writing
from dnms.bus.port import Record

SITE, LOG = "here", "0f" * 16
RECORDS = [Record("dnms.here.plan", n, n * 1_000, n.to_bytes(2) * 50) for n in range(1, 41)]


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "archive"


@pytest.fixture(autouse=True)
def small_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segments, "FULL", 1_000)  # 10 messages


def add(directory: Path, first: int, last: int) -> None:
    with writing(directory, site=SITE, log_id=LOG) as writer:
        assert (writer.newest.sequence if writer.newest is not None else 0) == first - 1
        writer.add(RECORDS[first - 1 : last])
        writer.flush()


def files(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir() if path.name != "lock"}


def spans(archive: Archive) -> list[tuple[int, int]]:
    return [(segment.first, segment.last) for segment in archive.segments]


def test_it_grows_by_segments_that_are_full_and_one_that_is_not(directory: Path) -> None:
    for first, last in ((1, 3), (4, 4), (5, 12), (13, 33)):
        add(directory, first, last)
    archive = Archive.open(directory)
    assert spans(archive) == [(1, 10), (11, 20), (21, 30), (31, 33)]
    assert list(archive.all()) == RECORDS[:33]
    assert set(files(directory)) == {MANIFEST, *(segment.name for segment in archive.segments)}
    assert {path.stat().st_mode & 0o077 for path in directory.glob("*.gz")} == {0}


def test_a_crash_between_any_two_steps_leaves_all_that_was_written(directory: Path, tmp_path: Path) -> None:
    """The steps: the new segment, the manifest, and the old segment is removed."""
    add(directory, 1, 13)
    before = files(directory)
    add(directory, 14, 17)
    after = files(directory)
    new = {name: content for name, content in after.items() if name not in before}
    crashed = [
        ({**before, ".00000000000000000011-00000000000000000017.dnmslog.gz.99": b"half"}, 13),
        ({**before, **new}, 17),
        ({**before, **new, ".manifest.json.99": b"half"}, 17),
        ({**before, **after}, 17),
        (after, 17),
        ({name: content for name, content in after.items() if name != MANIFEST}, 17),
        ({**after, MANIFEST: after[MANIFEST].replace(b'"first": 11', b'"first": 12')}, 17),
    ]
    for number, (content, end) in enumerate(crashed):
        left = tmp_path / f"left-{number}"
        left.mkdir()
        for name, data in content.items():
            (left / name).write_bytes(data)
        archive = Archive.open(left)
        assert (archive.end, list(archive.all())) == (end, RECORDS[:end]), number
        assert files(left) == content  # to read it changes nothing
        add(left, end + 1, 25)
        assert list(Archive.open(left).all()) == RECORDS[:25]
        assert len(files(left)) == 4, number


def test_who_reads_has_what_there_was_while_another_writes(directory: Path) -> None:
    add(directory, 1, 13)
    archive = Archive.open(directory)
    add(directory, 14, 16)
    assert list(archive.all()) == RECORDS[:13]
    add(directory, 17, 35)
    assert list(archive.all()) == RECORDS[:13]


def test_a_damaged_segment_is_named(directory: Path) -> None:
    add(directory, 1, 25)
    path = directory / Archive.open(directory).segments[1].name
    whole = path.read_bytes()
    for place in range(len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises(ArchiveError, match=rf"{path.name} is damaged"):
            list(Archive.open(directory).all())
    path.unlink()
    with pytest.raises(ArchiveError, match=rf"{path.name} is missing"):
        list(Archive.open(directory).all())


def test_without_its_manifest_a_missing_segment_is_told(directory: Path) -> None:
    add(directory, 1, 25)
    (directory / Archive.open(directory).segments[1].name).unlink()
    (directory / MANIFEST).unlink()
    with pytest.raises(ArchiveError, match="one is missing"):
        Archive.open(directory)


def test_a_manifest_with_a_flipped_bit_is_not_believed(directory: Path) -> None:
    add(directory, 1, 25)
    path = directory / MANIFEST
    whole = path.read_bytes()
    for place in range(len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1 << place % 8]) + whole[place + 1 :])
        assert list(Archive.open(directory).all()) == RECORDS[:25]


def test_two_do_not_write_one_archive(directory: Path) -> None:
    with (
        writing(directory, site=SITE, log_id=LOG),
        pytest.raises(ArchiveError, match="another process writes"),
        writing(directory, site=SITE, log_id=LOG),
    ):
        pass


def test_the_archive_of_another_log_is_not_continued(directory: Path) -> None:
    add(directory, 1, 3)
    with pytest.raises(ArchiveError, match="archive of another log"), writing(directory, site=SITE, log_id="1e" * 16):
        pass
    assert Archive.open(directory).end == 3


def test_a_directory_with_something_else_is_not_written_to(directory: Path) -> None:
    directory.mkdir()
    (directory / "letters").touch()
    with pytest.raises(ArchiveError, match="not empty"), writing(directory, site=SITE, log_id=LOG):
        pass
    shutil.rmtree(directory)
    with pytest.raises(ArchiveError, match="no such directory"):
        Archive.open(directory)
    directory.mkdir()
    with pytest.raises(ArchiveError, match="is empty"):
        Archive.open(directory)


def test_an_archive_of_a_newer_release_is_refused(directory: Path) -> None:
    add(directory, 1, 3)
    segments.write_manifest(directory, segments.Manifest(form=2, site=SITE, log_id=LOG))
    with pytest.raises(ArchiveError, match="upgrade dnms"):
        Archive.open(directory)
