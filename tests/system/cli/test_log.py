"""`dnms log` as a user meets it: the log is copied, archived, checked and repaired, and says so."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.system.bus import blocks
from tests.system.cli.conftest import DNMS, NAME, PATIENCE, dnms, history, serving, write

COMMITS = len(history())


@pytest.fixture
def written(tmp_path: Path) -> Path:
    """A site with a log, which is not served."""
    made = dnms("init", NAME, "--site", tmp_path / "site")
    assert made.code == 0, made.err
    with serving(tmp_path / "site") as served:
        assert write(served, history()) == COMMITS
    return tmp_path / "site"


@pytest.fixture
def archive(written: Path, tmp_path: Path) -> Path:
    """Its archive."""
    with serving(written) as served:
        done = dnms(
            "log", "archive", tmp_path / "archive", "--once", "--site", written, "--bus", served.bus, "-o", "json"
        )
    assert done.code == 0, done.err
    assert json.loads(done.out)["archived"] == COMMITS
    return tmp_path / "archive"


@contextmanager
def archiving(directory: Path, *, site: Path, bus: str) -> Iterator[str]:
    """`dnms log archive` until the end; what it says first."""
    words = ["log", "archive", str(directory), "--site", str(site), "--bus", bus, "-o", "json"]
    with subprocess.Popen([DNMS, *words], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline()
        finally:
            process.send_signal(signal.SIGTERM)
            code = process.wait(PATIENCE)
    assert code == 0


def test_an_archive_grows_beside_the_log_and_is_compared_with_it(written: Path, tmp_path: Path) -> None:
    directory = tmp_path / "archive"
    with serving(written) as served:
        with archiving(directory, site=written, bus=served.bus) as said:
            assert json.loads(said)["archived"] == COMMITS
            second = dnms("log", "archive", directory, "--site", written, "--bus", served.bus)
            assert (second.code, second.out) == (2, "")
            assert "another process writes to the archive" in second.err
        found = dnms("log", "check", directory, "--site", written, "--bus", served.bus, "-o", "json")
        assert found.code == 0, found.err
        assert json.loads(found.out)["archived"] == json.loads(found.out)["stored"] == COMMITS


def test_a_damaged_log_is_found_and_repaired(written: Path, archive: Path) -> None:
    (block,) = blocks.blocks(written / "log", NAME)
    blocks.flip(block, blocks.messages(block)[2].fields["payload"][5])
    refused = dnms("view", "verify", "--site", written)
    assert refused.code == 5
    found = dnms("log", "check", archive, "--site", written, "-o", "json")
    assert found.code == 1, found.err
    assert json.loads(found.out)["missing"] == [{"first": 3, "last": 3}]
    done = dnms("log", "repair", archive, "--site", written, "-o", "json")
    assert done.code == 0, done.err
    kept = json.loads(done.out)["kept"]
    assert json.loads(done.out) == {"changed": True, "messages": COMMITS, "restored": 1, "kept": kept}
    assert Path(kept) == written / "log.damaged-1"
    assert dnms("log", "check", archive, "--site", written).code == 0
    assert dnms("view", "verify", "--site", written).code == 0
    assert sorted(path.name for path in written.glob("log*")) == ["log", "log.damaged-1"]


def test_a_log_goes_to_another_machine(written: Path, archive: Path, tmp_path: Path) -> None:
    """With the site's directory, but for what is no secret; from a file and from an archive alike."""
    file = tmp_path / "log.gz"
    done = dnms("log", "export", file, "--site", written, "-o", "json")
    assert done.code == 0, done.err
    assert json.loads(done.out)["messages"] == COMMITS
    for number, source in enumerate((file, archive)):
        other = tmp_path / f"other-{number}"
        other.mkdir()
        for part in written.iterdir():
            if part.is_file() and not part.name.startswith("views"):
                (other / part.name).write_bytes(part.read_bytes())
        imported = dnms("log", "import", source, "--site", other, "-o", "json")
        assert imported.code == 0, imported.err
        assert json.loads(imported.out) == json.loads(done.out)
        assert dnms("log", "check", archive, "--site", other).code == 0
        with serving(other) as served:
            said = dnms("who-had", "2001:db8:1:1::5", environment=served.environment)
        assert said.code == 0, said.err
        assert "alpha" in said.out


def test_what_cannot_be_done_is_one_line(written: Path, archive: Path, tmp_path: Path) -> None:
    stranger = tmp_path / "stranger"
    assert dnms("init", "stranger", "--site", stranger).code == 0
    (tmp_path / "taken").touch()
    nowhere = tmp_path / "nowhere"
    for words, code, says in (
        (("export", tmp_path / "taken", "--site", written), 2, "is there already"),
        (("export", nowhere / "file", "--site", written), 2, "there is no directory"),
        (("import", nowhere, "--site", written), 2, "No such file"),
        (("import", tmp_path / "taken", "--site", written), 2, "no file of log messages"),
        (("import", archive, "--site", stranger), 2, f"is of the site '{NAME}'"),
        (("import", archive, "--site", written), 5, "this log itself"),
        (("check", nowhere, "--site", written), 2, "is no archive"),
        (("check", archive, "--site", stranger), 2, f"the archive of the site '{NAME}'"),
        (("repair", nowhere, "--site", written), 2, "is no archive"),
        (("archive", nowhere, "--site", written, "--bus", "nats://127.0.0.1:1"), 4, "no connection to the bus"),
    ):
        done = dnms("log", *words)
        assert (done.code, done.out) == (code, ""), (words, done)
        assert says in done.err
        assert "Traceback" not in done.err
