"""Managers of an interface, from what they leave below /proc, /run and /etc."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from dnms.linux.rivals import rivals

MANAGER = "dhcpcd: [manager] [ip4] [ip6]"


class Machine:
    """A root with processes of this namespace, and of another."""

    def __init__(self, root: Path) -> None:
        self.root = root
        (root / "proc/thread-self/ns").mkdir(parents=True)
        (root / "proc/thread-self/ns/net").symlink_to("net:[1]")

    def process(self, number: int, comm: str, cmdline: str = "", *, namespace: int = 1, age: float = 0.0) -> None:
        directory = self.root / "proc" / str(number)
        (directory / "ns").mkdir(parents=True)
        (directory / "ns/net").symlink_to(f"net:[{namespace}]")
        (directory / "comm").write_text(f"{comm}\n")
        (directory / "cmdline").write_text(f"{cmdline}\0")
        started = int((time.clock_gettime(time.CLOCK_BOOTTIME) - age) * os.sysconf("SC_CLK_TCK"))
        (directory / "stat").write_text(f"{number} ({comm}) S {' '.join(['0'] * 18)} {started} 0 0\n")

    def file(self, path: str, text: str, *, age: float = 0.0) -> None:
        whole = self.root / path
        whole.parent.mkdir(parents=True, exist_ok=True)
        whole.write_text(text)
        os.utime(whole, (time.time() - age,) * 2)

    def names(self) -> list[str]:
        return [each.name for each in rivals("eth0", 7, root=self.root)]


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


@pytest.mark.parametrize(("managed", "found"), [("true", ["NetworkManager"]), ("false", [])])
def test_network_manager_says_what_it_manages(machine: Machine, managed: str, found: list[str]) -> None:
    machine.process(10, "NetworkManager")
    machine.file("run/NetworkManager/devices/7", f"[device]\nmanaged={managed}\n")
    assert machine.names() == found


@pytest.mark.parametrize(
    ("state", "found"),
    [("configured", ["systemd-networkd"]), ("configuring", ["systemd-networkd"]), ("unmanaged", [])],
)
def test_networkd_says_what_it_manages(machine: Machine, state: str, found: list[str]) -> None:
    machine.process(10, "systemd-network")
    machine.file("run/systemd/netif/links/7", f"ADMIN_STATE={state}\nOPER_STATE=routable\n")
    assert machine.names() == found


def test_what_a_daemon_left_behind_or_says_in_another_namespace_does_not_count(machine: Machine) -> None:
    machine.file("run/NetworkManager/devices/7", "managed=true\n")
    machine.file("run/systemd/netif/links/7", "ADMIN_STATE=configured\n")
    machine.process(10, "systemd-network", namespace=2)
    assert machine.names() == []


@pytest.mark.parametrize(
    ("comm", "cmdline", "found"),
    [
        ("dhcpcd", "dhcpcd: eth0 [ip4]", ["dhcpcd"]),
        ("dhcpcd", "dhcpcd: eth01 [ip4]", []),
        ("dhclient", "/sbin/dhclient\0-4\0-v\0eth0", ["dhclient"]),
        ("dhclient", "/sbin/dhclient\0-4\0-v\0eth1", []),
        ("udhcpc", "udhcpc\0-f\0-ieth0", ["udhcpc"]),
        ("dhcp6c", "dhcp6c\0-c\0conf\0eth0", ["dhcp6c"]),
        ("grep", "grep\0eth0", []),
    ],
)
def test_a_client_is_known_by_the_interface_that_it_was_started_for(
    machine: Machine, comm: str, cmdline: str, found: list[str]
) -> None:
    machine.process(10, comm, cmdline)
    assert machine.names() == found


@pytest.mark.parametrize(
    ("says", "found"),
    [
        ("", ["dhcpcd"]),
        ("denyinterfaces eth0\n", []),
        ("  denyinterfaces wlan0,eth* # ours\n", []),
        ("denyinterfaces eth1\ndenyinterfaces eth[0-3]\n", []),
        ("# denyinterfaces eth0\n", ["dhcpcd"]),
        ("denyinterfaces wlan0 # and not eth0\n", ["dhcpcd"]),
        ("denyinterfaces eth01\n", ["dhcpcd"]),
        ("allowinterfaces wlan0\n", []),
        ("allowinterfaces eth0\n", ["dhcpcd"]),
        ("allowinterfaces eth0\ndenyinterfaces eth0\n", []),
        ("interface wlan0\ndenyinterfaces eth0\n", ["dhcpcd"]),
    ],
)
def test_a_manager_has_what_its_configuration_does_not_deny(machine: Machine, says: str, found: list[str]) -> None:
    machine.process(10, "dhcpcd", MANAGER)
    machine.file("etc/dhcpcd.conf", says, age=10)
    assert machine.names() == found


def test_a_manager_keeps_what_was_denied_after_it_started(machine: Machine) -> None:
    machine.process(10, "dhcpcd", MANAGER, age=60)
    machine.file("etc/dhcpcd.conf", "denyinterfaces eth0\n", age=10)
    (rival,) = rivals("eth0", 7, root=machine.root)
    assert rival.name == "dhcpcd"
    assert "restart dhcpcd" in rival.advice


def test_a_manager_without_a_configuration_has_everything(machine: Machine) -> None:
    machine.process(10, "dhcpcd", MANAGER)
    assert machine.names() == ["dhcpcd"]
