"""`dnms relay` and `dnms relay issue`, as a user has them."""

from __future__ import annotations

from pathlib import Path

from dnms.cli.exits import MACHINE, OK, USAGE
from tests.system.cli.conftest import dnms

RUN = ("relay", "--interface", "nowhere", "--subnet", "lan", "--agent", "192.0.2.1")


def test_a_relays_key_and_certificate_are_made_once_and_are_what_it_begins_with(site: Path, tmp_path: Path) -> None:
    directory = tmp_path / "edge"
    made = dnms("relay", "issue", "edge", directory, "--site", site)
    assert (made.code, made.err) == (OK, "")
    assert made.out.splitlines() == [str(directory / "relay.pem"), str(directory / "relay.key")]
    again = dnms("relay", "issue", "edge", directory, "--site", site)
    assert (again.code, again.out) == (USAGE, "")
    assert again.err == f"dnms: {directory} holds relay.key and relay.pem already; nothing was changed\n"
    begun = dnms(*RUN, "--directory", directory)
    assert begun.code == MACHINE
    assert "nowhere" in begun.err
    assert begun.err.count("\n") == 1


def test_a_relay_without_its_files_says_how_to_get_them(tmp_path: Path) -> None:
    done = dnms(*RUN, "--directory", tmp_path)
    assert (done.code, done.out) == (MACHINE, "")
    assert done.err.startswith(
        f"dnms: cannot read {tmp_path / 'relay.pem'}: No such file or directory; have `dnms relay"
    )


def test_only_a_site_can_issue(tmp_path: Path) -> None:
    done = dnms("relay", "issue", "edge", tmp_path / "edge", "--site", tmp_path / "nowhere")
    assert (done.code, done.out) == (MACHINE, "")
    assert done.err.startswith(f"dnms: {tmp_path / 'nowhere'} holds no site")
    assert not (tmp_path / "edge").exists()
