"""A slice of a site's log: exported, perhaps with pseudonyms, and stepped through where there is no site."""

from __future__ import annotations

import gzip
import json
import stat
from pathlib import Path
from typing import Any

import pytest

from dnms.archive import slices
from dnms.archive.records import ArchiveError
from dnms.cli.exits import OK, USAGE
from dnms.disk.site import Site
from dnms.events.ip import format_address
from tests.system.cli.conftest import ALPHA, BETA, HELD, SHARED, Served, dnms

FROM = "6"


def export(served: Served, file: Path, *words: str) -> dict[str, Any]:
    done = dnms("log", "export", file, *words, "--bus", served.bus, "-o", "json", environment=served.environment)
    assert (done.code, done.err) == (OK, "")
    found: dict[str, Any] = json.loads(done.out)
    return found


def stepped(*words: str | Path, environment: dict[str, str] | None = None) -> list[dict[str, Any]]:
    done = dnms("replay", *words, "-o", "json", environment=environment)
    assert (done.code, done.err) == (OK, "")
    return [json.loads(line) for line in done.out.splitlines()]


def of_log(served: Served, *words: str) -> list[dict[str, Any]]:
    return stepped(*words, "--bus", served.bus, environment=served.environment)


def test_a_slice_is_stepped_through_as_the_log_is(served: Served, tmp_path: Path) -> None:
    file = tmp_path / "slice.gz"
    written = export(served, file, "--from", FROM)
    assert (written["first"], written["pseudonymised"]) == (6, False)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    expected, found = of_log(served, "--from", FROM), stepped(file)
    assert found
    for one, other in zip(found, expected, strict=True):  # what agents saw before is not in it
        assert {**one, "before": {}, "after": {}} == {**other, "before": {}, "after": {}}
        for part in set(one["after"]) - {"session"}:
            assert (one["before"][part], one["after"][part]) == (other["before"][part], other["after"][part])
    only = stepped(file, "--only", format_address(SHARED))
    assert [step["position"] for step in only] == [
        step["position"] for step in of_log(served, "--from", FROM, "--only", format_address(SHARED))
    ]


def test_it_ends_where_it_is_told(served: Served, tmp_path: Path) -> None:
    written = export(served, tmp_path / "slice.gz", "--from", "5", "--to", "6")
    assert (written["first"], written["last"], written["messages"]) == (5, 6, 2)
    assert {step["position"].partition(".")[0] for step in stepped(tmp_path / "slice.gz")} == {"5", "6"}


@pytest.mark.parametrize("first", ["1", FROM])
def test_with_pseudonyms_nothing_personal_is_left_and_it_steps_alike(
    served: Served, tmp_path: Path, first: str
) -> None:
    file = tmp_path / "slice.gz"
    assert export(served, file, "--from", first, "--pseudonymise")["pseudonymised"]
    content = gzip.decompress(file.read_bytes())
    nodes = json.loads(dnms("node", "list", "-o", "json", environment=served.environment).out)
    names = [node["name"].encode() for node in nodes if node["name"]]
    assert names
    secret = Site.load(served.directory).secret
    for left in (*names, ALPHA, BETA, HELD, SHARED, HELD[:8], b"east", b"operator/root", b"phone-", secret):
        assert left not in content
    expected, found = of_log(served, "--from", first), stepped(file)
    assert [(step["position"], step["name"], step["time"]) for step in found] == [
        (step["position"], step["name"], step["time"]) for step in expected
    ]
    # Of the same machine the same, and in its subnet.
    pairs = {
        (was["fields"]["client"], now["fields"]["client"])
        for was, now in zip(expected, found, strict=True)
        if "client" in was["fields"]
    }
    assert len(pairs) == len({was for was, _ in pairs}) == len({now for _, now in pairs})
    # Nobody can compare two exports: each has a key of its own.
    export(served, tmp_path / "again.gz", "--from", first, "--pseudonymise")
    assert gzip.decompress((tmp_path / "again.gz").read_bytes()) != content


def test_what_a_slice_is_not_for_is_said(served: Served, tmp_path: Path) -> None:
    file = tmp_path / "slice.gz"
    export(served, file, "--from", FROM, "--pseudonymise")
    decided = dnms("replay", "--decide", file)
    assert (decided.code, decided.out) == (USAGE, "")
    assert "--decide takes a site's own log" in decided.err
    imported = dnms("log", "import", file, "--site", served.directory)
    assert imported.code == USAGE
    assert "is a slice, and not a whole log" in imported.err
    beyond = dnms(
        "log", "export", tmp_path / "none", "--from", "100000", "--bus", served.bus, environment=served.environment
    )
    assert (beyond.code, (tmp_path / "none").exists()) == (USAGE, False)
    assert "no message there" in beyond.err
    missing = dnms("replay", tmp_path / "none")
    assert (missing.code, missing.err) == (USAGE, f"dnms: {tmp_path / 'none'}: No such file or directory\n")


def test_a_damaged_slice_is_noticed(served: Served, tmp_path: Path) -> None:
    file = tmp_path / "slice.gz"
    export(served, file, "--from", FROM)
    whole = gzip.decompress(file.read_bytes())
    broken = [whole[:-1], whole[:-40], b"DNMS slice 2" + whole[12:], whole[:60] + bytes([whole[60] ^ 1]) + whole[61:]]
    for content in broken:
        file.write_bytes(gzip.compress(content))
        with pytest.raises(ArchiveError):
            list(slices.records(file))
    file.write_bytes(b"no gzip")
    assert not slices.is_slice(file)
    done = dnms("replay", file)
    assert (done.code, done.out) == (USAGE, "")
    assert "is damaged, or no slice of a log" in done.err
