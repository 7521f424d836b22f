"""Evidence as a user makes it and checks it, against a log that is served."""

from __future__ import annotations

import json
from pathlib import Path

import httpx
import pytest

from dnms.cli.exits import MACHINE, NO, OK, USAGE
from tests.system.cli.conftest import ALPHA, BETA, PATIENCE, Served, dnms

AT = "2026-03-01T12:30:00Z"


@pytest.fixture(scope="module")
def evidence(served: Served, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Who had an address that two nodes held one after the other."""
    file = tmp_path_factory.mktemp("evidence") / "evidence.json"
    words: list[str | Path] = [
        "evidence",
        "2001:db8:1:1::5",
        "--at",
        AT,
        "--file",
        file,
        "--bus",
        served.bus,
        "-o",
        "json",
    ]
    made = dnms(*words, environment=served.environment)
    assert made.code == OK, made.err
    assert [one["client"] for one in json.loads(made.out)["answer"]] == [BETA.hex()]
    return file


def verify(served: Served, file: Path, *words: str) -> tuple[int, str]:
    """The exit code and the verdict."""
    done = dnms("evidence", "verify", file, *words, "-o", "json", environment=served.environment)
    return done.code, json.loads(done.out)["verdict"] if done.out else done.err


def test_it_holds_against_the_log_and_by_itself(served: Served, evidence: Path, tmp_path: Path) -> None:
    assert verify(served, evidence, "--bus", served.bus) == (OK, "holds")
    root = tmp_path / "root.pem"
    root.write_bytes((served.directory / "root.pem").read_bytes())
    assert verify(served, evidence, "--offline", "--root", str(root), "--site", str(tmp_path)) == (OK, "holds")
    said = dnms("evidence", "verify", evidence, "--bus", served.bus, environment=served.environment).out
    assert "holds: the site signed it, and the log says the same" in said
    assert "address.allocated" in said


def test_it_can_be_had_over_the_api(served: Served, tmp_path: Path) -> None:
    token = (served.directory / "api.token").read_text()
    with httpx.Client(base_url=f"{served.api}/api/v1", headers={"Authorization": f"Bearer {token}"}) as api:
        made = api.get("/evidence/2001:db8:1:1::5", params={"at": AT}, timeout=PATIENCE)
        assert made.status_code == 200, made.text
        assert api.get("/evidence/nowhere", params={"at": AT}).json()["why"] == "invalid-parameter"
        assert api.get("/evidence/2001:db8:1:1::5").status_code == 400
        verified = api.post("/evidence/verify", content=made.content, timeout=PATIENCE).json()
        assert (verified["holds"], verified["verdict"], verified["compared_with_log"]) == (True, "holds", True)
        forged = made.content.replace(BETA.hex().encode(), ALPHA.hex().encode())
        assert api.post("/evidence/verify", content=forged, timeout=PATIENCE).json()["verdict"] == "bad-signature"
        nothing = api.post("/evidence/verify", content=b"{}", timeout=PATIENCE)
        assert (nothing.status_code, nothing.json()["why"]) == (400, "not-evidence")
    file = tmp_path / "evidence"
    file.write_bytes(made.content)
    assert verify(served, file, "--bus", served.bus) == (OK, "holds")
    assert [one["client"] for one in json.loads(made.content.splitlines()[0])["answer"]] == [BETA.hex()]


def test_a_forgery_does_not(served: Served, evidence: Path, tmp_path: Path) -> None:
    forged = tmp_path / "forged.json"
    forged.write_text(evidence.read_text().replace(BETA.hex(), ALPHA.hex()))
    assert verify(served, forged, "--bus", served.bus) == (NO, "bad-signature")
    done = dnms("evidence", "verify", forged, "--offline", environment=served.environment)
    assert done.err.startswith(f"dnms: {forged} does NOT hold: bad-signature: ")


def test_of_another_site_it_does_not(served: Served, evidence: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    assert dnms("init", "example", "--site", other).code == OK
    assert verify(served, evidence, "--offline", "--site", str(other)) == (NO, "untrusted-key")


def test_what_is_no_evidence_is_wrong_usage(served: Served, tmp_path: Path) -> None:
    file = tmp_path / "none"
    file.write_text("{}")
    code, said = verify(served, file)
    assert (code, said.count("\n")) == (USAGE, 1)
    assert "it is no evidence" in said
    assert verify(served, tmp_path / "missing")[0] == USAGE


def test_that_nobody_had_it_is_evidence_too(served: Served, tmp_path: Path) -> None:
    file = tmp_path / "evidence.json"
    words: list[str | Path] = [
        "evidence",
        "192.0.2.9",
        "--at",
        "1 march 2026 12:30 UTC",
        "--file",
        file,
        "--bus",
        served.bus,
    ]
    made = dnms(*words, environment=served.environment)
    assert made.code == NO
    assert "nobody had 192.0.2.9 at 2026-03-01 12:30:00Z" in made.err
    assert verify(served, file, "--bus", served.bus) == (OK, "holds")
    again = dnms(*words, environment=served.environment)
    assert again.code == USAGE
    assert "is there already" in again.err


def test_a_directory_that_cannot_sign_says_so(served: Served, tmp_path: Path) -> None:
    site = tmp_path / "site"
    assert dnms("init", "example", "--site", site).code == OK
    (site / "root.key").unlink()
    words: list[str | Path] = [
        "evidence",
        "192.0.2.9",
        "--at",
        AT,
        "--file",
        tmp_path / "file",
        "--site",
        site,
        "--bus",
        served.bus,
    ]
    made = dnms(*words)
    assert made.code == MACHINE
    assert "cannot sign for the site" in made.err
    assert not (tmp_path / "file").exists()


def test_where_no_file_can_be_the_log_is_not_read(served: Served, tmp_path: Path) -> None:
    nowhere = tmp_path / "nowhere" / "evidence.json"
    done = dnms("evidence", "2001:db8:1:1::5", "--at", AT, "--file", nowhere, environment=served.environment)
    assert (done.code, done.err) == (USAGE, f"dnms: there is no directory {nowhere.parent}\n")
