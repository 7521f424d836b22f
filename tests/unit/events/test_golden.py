"""The log keeps its bytes for ever: this release reads what every release wrote, and writes what it always wrote."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgpack
import msgspec
import pytest

from dnms.events import codec
from dnms.events.commit import FORMAT, Commit
from dnms.events.recorded import Event, Recorded
from tests.unit.events import golden_bytes as golden

FILES = sorted(golden.FOLDER.glob("*.json"))
KINDS = {kind.NAME: kind for kind in golden.KINDS}


def rows(path: Path) -> list[dict[str, Any]]:
    loaded: list[dict[str, Any]] = json.loads(path.read_text())
    return loaded


def name_and_version(path: Path) -> tuple[str, int]:
    name, _, version = path.name.partition(".json")[0].rpartition(".v")
    return name, int(version.partition(".")[0])


def wrapped(kind: type[Recorded], version: int, fields: bytes) -> bytes:
    """A commit around the fields of one event or request, made by the reference library."""
    item = [kind.NAME, version, msgpack.unpackb(fields)]
    decisions = [] if issubclass(kind, Event) else [[item, 1, b"", 0, 0, None, 1]]
    events = [item] if issubclass(kind, Event) else []
    packed: bytes = msgpack.packb([FORMAT, bytes(16), 1, 0, "agent/a1", 0, decisions, events, None, None])
    return packed


def unwrapped(commit: Commit) -> Recorded:
    return commit.events[0] if commit.events else commit.decisions[0].request


RECORDED = [path for path in FILES if not path.name.startswith("commit.v")]


@pytest.mark.parametrize("path", RECORDED, ids=lambda path: path.name)
def test_every_published_item_is_read_and_written_as_it_was(path: Path) -> None:
    name, version = name_and_version(path)
    kind = KINDS[name]
    for row in rows(path):
        data, value = bytes.fromhex(row["hex"]), row["value"]
        commit = wrapped(kind, version, data)
        read = unwrapped(codec.decode(commit))
        assert golden.readable(msgpack.unpackb(data)) == value, "the reference library reads something else"
        assert type(read) is kind
        if version == kind.VERSION:
            assert read == msgspec.convert(golden.from_readable(value), kind)
            assert codec.encoder.encode(read) == data, (
                "published bytes have changed: a changed meaning is a new version, with an upcast; "
                "only what was never published may be deleted and made again by `make golden`"
            )
            assert codec.encode(codec.decode(commit)) == commit


@pytest.mark.parametrize("path", sorted(golden.FOLDER.glob("commit.v*.json")), ids=lambda path: path.name)
def test_every_published_commit_is_read_and_written_as_it_was(path: Path) -> None:
    for row, expected in zip(rows(path), golden.commits(), strict=True):
        data = bytes.fromhex(row["hex"])
        assert golden.readable(msgpack.unpackb(data)) == row["value"]
        assert codec.decode(data) == expected
        assert codec.encode(expected) == data


def test_everything_of_this_release_has_golden_bytes() -> None:
    for stem, encoded in golden.wanted():
        known = golden.published(stem)
        assert all(data in known for data in encoded), f"{stem}: run `make golden` and commit the new file"


@pytest.mark.parametrize("kind", golden.KINDS, ids=lambda kind: kind.NAME)
def test_every_version_that_was_ever_published_has_golden_bytes_and_an_upcast(kind: type[Recorded]) -> None:
    assert set(kind.UPCASTS) == set(range(1, kind.VERSION))
    for version in range(1, kind.VERSION + 1):
        assert golden.published(f"{kind.NAME}.v{version}"), f"version {version} has no golden bytes"


def test_no_golden_bytes_are_of_something_that_this_release_does_not_know() -> None:
    for path in RECORDED:
        name, version = name_and_version(path)
        assert version <= KINDS[name].VERSION


def test_the_generator_adds_and_never_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(golden, "FOLDER", tmp_path / "golden")
    golden.main()
    assert {path.name for path in golden.FOLDER.iterdir()} == {f"{stem}.json" for stem, _ in golden.wanted()}
    changed = golden.FOLDER / "address.allocated.v1.json"
    old = changed.read_text().replace("81", "80")
    changed.write_text(old)
    golden.main()
    assert changed.read_text() == old
    assert (golden.FOLDER / "address.allocated.v1.2.json").exists()
