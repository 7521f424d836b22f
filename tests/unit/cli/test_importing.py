"""`dnms import` where nobody has to be asked: what it writes, what it says, and how it ends."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dnms.cli.app import run
from dnms.cli.exits import NO, OK, UNREACHABLE, USAGE
from dnms.disk.site import Site

KEA = '{"Dhcp4": {"subnet4": [{"id": 1, "subnet": "192.0.2.0/24", "pools": [{"pool": "192.0.2.9 - 192.0.2.99"}]}]}}'
LEFT = KEA.replace('"id": 1', '\n"server-hostname": "x", "id": 1')
ISC = "subnet 192.0.2.0 netmask 255.255.255.0 { range 192.0.2.9 192.0.2.99; }"
DNSMASQ = "dhcp-range=192.0.2.9,192.0.2.99,255.255.255.0,1h\ndhcp-option=3,192.0.2.1"


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DNMS_SITE", str(tmp_path / "site"))
    monkeypatch.setenv("DNMS_API", "http://127.0.0.1:9")  # where nobody listens
    Site.create(tmp_path / "site", "home")
    return tmp_path


def written(folder: Path, text: str) -> str:
    (folder / "server.conf").write_text(text)
    return str(folder / "server.conf")


@pytest.mark.parametrize(("kind", "text"), [("kea", KEA), ("isc-dhcpd", ISC), ("dnsmasq", DNSMASQ)])
def test_a_plan_is_written_that_can_be_applied(site: Path, kind: str, text: str) -> None:
    plan = site / "plan.toml"
    assert run(["import", kind, written(site, text), "--plan", str(plan)]) == OK
    assert 'name = "home"' in plan.read_text()
    assert "192.0.2.9-192.0.2.99" in plan.read_text()
    assert run(["plan", "check", str(plan)]) == OK


def test_what_is_left_out_is_told_with_its_place(site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = written(site, LEFT)
    assert run(["import", "kea", config, "-o", "json"]) == NO
    (left,) = json.loads(capsys.readouterr().out)["left"]
    assert (left["file"], left["line"], left["what"]) == (config, 2, "server-hostname (subnet)")


def test_a_plan_that_somebody_has_changed_stays(site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plan, config = site / "plan.toml", written(site, KEA)
    words = ["import", "kea", config, "--plan", str(plan)]
    assert run(words) == OK
    assert run(words) == OK  # the same again
    plan.write_text(f"# mine\n{plan.read_text()}")
    assert run(words) == USAGE
    assert "says something else" in capsys.readouterr().err
    assert plan.read_text().startswith("# mine")


@pytest.mark.parametrize("text", ["{", '{"Dhcp4": {"subnet4": [{"subnet": "x"}]}}'])
def test_what_cannot_be_read_ends_with_its_place(site: Path, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    plan, config = site / "plan.toml", written(site, text)
    assert run(["import", "kea", config, "--plan", str(plan)]) == USAGE
    said = capsys.readouterr().err
    assert f"{config}:1: " in said
    assert "nothing was changed" in said
    assert not plan.exists()
    assert run(["import", "kea", str(site / "nowhere")]) == USAGE


def test_leases_are_for_the_site_to_judge(site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    leases = site / "dnsmasq.leases"
    leases.write_text("9999999999 02:00:00:00:00:01 192.0.2.10 pc-1 *\n")
    words = ["import", "dnsmasq", written(site, DNSMASQ), "--leases", str(leases)]
    assert run(words) == UNREACHABLE
    assert "dnms serve" in capsys.readouterr().err
    leases.write_text("no lease\n")
    assert run(words) == USAGE
    assert f"{leases}:1: " in capsys.readouterr().err
