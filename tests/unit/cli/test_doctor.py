"""What `dnms doctor --install` does to a machine, without doing it to this one."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from dnms.cli import doctor


@pytest.fixture
def policy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Debian's question whether services may start, in a place of this test's own."""
    path = tmp_path / "policy-rc.d"
    monkeypatch.setattr(doctor, "POLICY", path)
    return path


@pytest.fixture
def apt_get(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, policy: Path) -> Path:
    """An apt-get that writes down how it was called and what it found; it fails if a file `fail` is beside it."""
    folder = tmp_path / "bin"
    folder.mkdir()
    program, calls = folder / "apt-get", tmp_path / "calls"
    program.write_text(
        f'#!/bin/sh\necho "$DEBIAN_FRONTEND $(test -x {policy} && {policy}; echo $?) $*" >> {calls}\n'
        f"test ! -e {folder}/fail\n"
    )
    program.chmod(0o755)
    monkeypatch.setattr(doctor, "search_path", lambda: f"{folder}:/usr/bin:/bin")
    monkeypatch.setattr("os.geteuid", lambda: 0)
    return calls


def test_it_says_what_it_installs_asks_nothing_and_lets_no_service_start(
    apt_get: Path, policy: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    doctor.install_packages(["iproute2", "radvd"])
    update, install = apt_get.read_text().splitlines()
    assert update.startswith("noninteractive 101 ")
    assert update.endswith(" update -qq")
    assert install.startswith("noninteractive 101 ")
    assert install.endswith(" install -qq -y --no-install-recommends iproute2 radvd")
    assert not policy.exists()
    out, err = capfd.readouterr()
    assert out == ""
    assert "iproute2 radvd" in err


def test_a_failing_apt_get_is_one_clear_line_and_leaves_nothing(apt_get: Path, policy: Path) -> None:
    (apt_get.parent / "bin" / "fail").touch()
    with pytest.raises(doctor.InstallError, match=r"apt-get .* update -qq` failed with exit code 1"):
        doctor.install_packages(["radvd"])
    assert len(apt_get.read_text().splitlines()) == 1
    assert not policy.exists()


def test_a_policy_of_the_machine_stays_as_it_is(apt_get: Path, policy: Path) -> None:
    policy.write_text("#!/bin/sh\nexit 104\n")
    policy.chmod(0o700)
    doctor.install_packages(["radvd"])
    assert apt_get.read_text().splitlines()[0].startswith("noninteractive 104 ")
    assert policy.read_text() == "#!/bin/sh\nexit 104\n"
    assert stat.S_IMODE(policy.stat().st_mode) == 0o700


def test_an_ordinary_user_is_told_what_to_do(apt_get: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    with pytest.raises(doctor.InstallError, match="only root can install radvd"):
        doctor.install_packages(["radvd"])
    assert not apt_get.exists()


def test_a_machine_without_apt_get_is_told_the_names(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(doctor, "search_path", lambda: str(tmp_path))
    with pytest.raises(doctor.InstallError, match=r"no apt-get here.*radvd"):
        doctor.install_packages(["radvd"])


@pytest.mark.parametrize(("limit", "advised"), [(1_024, True), (16_383, True), (16_384, False), (65_536, False)])
def test_a_small_table_of_neighbours_is_told_and_is_not_missing(
    limit: int, advised: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    table = tmp_path / "gc_thresh3"
    table.write_text(f"{limit}\n")
    monkeypatch.setattr(doctor, "NEIGHBOURS", table)
    [check] = [each for each in doctor.examine().checks if each.name == "IPv6 neighbours"]
    assert check.ok
    assert check.found == f"at most {limit}"
    lines = [each for each in doctor.tables(doctor.Report(ok=True, checks=(check,))) if isinstance(each, str)]
    assert any("sysctl -w net.ipv6.neigh.default.gc_thresh3=16384" in line for line in lines) == advised


def test_a_namespace_that_does_not_show_the_table_is_given_no_advice(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(doctor, "NEIGHBOURS", tmp_path / "nowhere")
    [check] = [each for each in doctor.examine().checks if each.name == "IPv6 neighbours"]
    assert (check.ok, check.advice) == (True, "")
