"""What other managers are told, in the files that they read, and that nothing of it stays."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from dnms.linux.leaving_alone import KEPT, leave_alone, undo
from dnms.linux.rivals import Rival, rivals
from tests.unit.linux.test_rivals import MANAGER, Machine

NM = "etc/NetworkManager/conf.d/90-dnms-eth0.conf"
NETWORKD = "etc/systemd/network/00-dnms-eth0.network"
DHCPCD = "etc/dhcpcd.conf"


class Host(Machine):
    """A root with other managers in it, commands that only say that they were called, and a place for what is kept."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.state = root / "state"
        self.called = root / "called"
        for name in ("networkctl", "systemctl", "rc-service"):
            self.file(f"bin/{name}", f'#!/bin/sh\necho {name} "$@" >> {self.called}\n')
            (root / "bin" / name).chmod(0o755)

    def manages(self, name: str, process: int = 10) -> None:
        match name:
            case "NetworkManager":
                self.process(process, name)
                self.file("run/NetworkManager/devices/7", "[device]\nmanaged=true\n")
            case "systemd-networkd":
                self.process(process, "systemd-network")
                self.file("run/systemd/netif/links/7", "ADMIN_STATE=configured\n")
            case _:
                self.process(process, "dhcpcd", MANAGER, age=60)

    def told(self) -> list[bool]:
        return [leave_alone(each, "eth0", state=self.state, root=self.root) for each in self.found()]

    def found(self) -> tuple[Rival, ...]:
        return rivals("eth0", 7, root=self.root)

    def undo(self) -> None:
        undo("eth0", state=self.state, root=self.root)

    def said(self, path: str) -> str | None:
        return (self.root / path).read_text() if (self.root / path).exists() else None

    def calls(self) -> list[str]:
        return self.called.read_text().splitlines() if self.called.exists() else []


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    return Host(tmp_path)


@pytest.fixture
def daemon() -> Iterator[subprocess.Popen[bytes]]:
    """A process that a SIGHUP ends, also where the tests were started by one that ignores it, as `nohup` does."""
    with subprocess.Popen(["env", "--default-signal=HUP", "sleep", "60"]) as process:
        try:
            yield process
        finally:
            process.kill()


def test_network_manager_is_told_by_a_file_and_a_signal(host: Host, daemon: subprocess.Popen[bytes]) -> None:
    host.manages("NetworkManager", daemon.pid)
    assert host.told() == [True]
    assert (host.said(NM) or "").splitlines()[1:] == ["[keyfile]", "unmanaged-devices+=interface-name:eth0"]
    assert daemon.wait(10) == -signal.SIGHUP
    assert host.told() == [False]  # whoever does not let go is not told again and again
    host.undo()
    assert host.said(NM) is None
    assert not (host.state / KEPT.format("eth0")).exists()


def test_networkd_is_told_by_a_file_and_its_command(host: Host) -> None:
    host.manages("systemd-networkd")
    assert host.told() == [True]
    text = (host.said(NETWORKD) or "").splitlines()[1:]
    assert text == ["[Match]", "Name=eth0", "", "[Link]", "Unmanaged=yes"]
    assert host.calls() == ["networkctl reload"]
    host.undo()
    assert host.said(NETWORKD) is None
    assert host.calls() == ["networkctl reload"] * 2


def test_what_was_in_the_place_of_a_drop_in_comes_again(host: Host) -> None:
    host.manages("systemd-networkd")
    host.file(NETWORKD, "[Match]\nName=eth0\n\n[Network]\nDHCP=yes\n")
    assert host.told() == [True]
    assert "DHCP" not in (host.said(NETWORKD) or "")
    host.undo()
    assert host.said(NETWORKD) == "[Match]\nName=eth0\n\n[Network]\nDHCP=yes\n"


@pytest.mark.parametrize("before", [None, "", "nodev\ninterface wlan0\nstatic ip_address=192.0.2.9/24\n"])
def test_of_the_file_of_dhcpcd_only_a_block_is_ours(host: Host, before: str | None) -> None:
    host.manages("dhcpcd")
    if before is not None:
        host.file(DHCPCD, before)
        (host.root / DHCPCD).chmod(0o600)
    assert host.told() == [True]
    text = host.said(DHCPCD) or ""
    assert text.splitlines()[1] == "denyinterfaces eth0"
    assert text.endswith(before or "\n")
    if before is not None:
        assert (host.root / DHCPCD).stat().st_mode & 0o777 == 0o600
    (host.root / DHCPCD).write_text(f"{text}# somebody was here\n")
    assert host.told() == [False]
    host.undo()
    assert host.said(DHCPCD) == f"{before or ''}# somebody was here\n"


def test_a_file_of_dhcpcd_that_was_not_there_goes_again(host: Host) -> None:
    host.manages("dhcpcd")
    assert host.told() == [True]
    host.undo()
    assert host.said(DHCPCD) is None


def test_of_two_interfaces_the_block_of_the_other_stays(host: Host) -> None:
    host.manages("dhcpcd")
    host.file(DHCPCD, "nodev\n")
    (other,) = rivals("eth1", 8, root=host.root)
    assert leave_alone(other, "eth1", state=host.state, root=host.root)
    assert host.told() == [True]
    host.undo()
    assert (host.said(DHCPCD) or "").count("denyinterfaces") == 1
    assert "denyinterfaces eth1\n" in (host.said(DHCPCD) or "")


@pytest.mark.parametrize(
    ("manager", "called"),
    [
        ("run/systemd/system", ["systemctl try-restart dhcpcd.service"]),
        ("run/openrc", ["rc-service dhcpcd restart"]),
        ("run/nothing", []),
    ],
)
def test_dhcpcd_is_restarted_by_its_service_manager_if_there_is_one(
    host: Host, manager: str, called: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    host.manages("dhcpcd")
    host.file("proc/10/cgroup", "0::/system.slice/dhcpcd.service\n")
    (host.root / manager).mkdir(parents=True)
    assert host.told() == [True]
    assert host.calls() == called
    assert ("restart it" in capsys.readouterr().out) == (not called)


def test_a_client_for_one_interface_is_left_to_a_person(host: Host) -> None:
    host.process(10, "dhclient", "/sbin/dhclient\0-4\0eth0")
    host.process(11, "dhcpcd", "dhcpcd: eth0 [ip4]")
    assert host.told() == [False, False]
    assert host.said(DHCPCD) is None
    assert not host.state.exists()


def test_without_anything_to_undo_nothing_is_touched(host: Host) -> None:
    host.manages("dhcpcd")
    host.undo()
    assert host.calls() == []
    assert not host.state.exists()
