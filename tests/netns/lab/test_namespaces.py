"""Namespaces and bridges, in the real kernel."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from dnms.linux import isolation
from dnms.linux.namespaces import Bridge, Namespace, NamespaceError


def own() -> str:
    return str(Path("/proc/thread-self/ns/net").readlink())


@pytest.fixture
def spaces() -> Iterator[list[Namespace]]:
    with ExitStack() as stack:
        yield [stack.enter_context(Namespace.create(f"test-{number}")) for number in range(4)]


def test_what_is_made_is_a_network_of_its_own_with_a_loopback_that_is_up(spaces: list[Namespace]) -> None:
    before = own()
    shown = spaces[0].run("ip", "-brief", "link").splitlines()
    assert [line.split()[0] for line in shown] == ["lo"]
    assert "LOOPBACK,UP" in shown[0]
    with spaces[0].entered():
        inside = own()
    assert len({before, inside}) == 2
    assert own() == before


def test_the_thread_comes_back_when_something_fails_in_there(spaces: list[Namespace]) -> None:
    before = own()
    with pytest.raises(ZeroDivisionError), spaces[0].entered():
        raise ZeroDivisionError
    with pytest.raises(NamespaceError, match=r"false in test-0: exit code 1"):
        spaces[0].run("false")
    assert own() == before


@pytest.mark.parametrize(
    ("wrong", "complaint"),
    [
        (lambda space: space.ip(["link set dev nowhere up"]), "Cannot find device"),
        (lambda space: space.set_up("nowhere"), "cannot bring nowhere up: No such device"),
        (lambda space: space.set_sysctls({"ipv6.conf.nowhere.accept_ra": 0}), "net.ipv6.conf.nowhere.accept_ra"),
        (lambda space: space.run("no-such-program"), "no-such-program in test-0"),
    ],
)
def test_what_the_kernel_refuses_is_one_clear_line(spaces: list[Namespace], wrong, complaint: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(NamespaceError, match=complaint) as caught:
        wrong(spaces[0])
    assert "\n" not in str(caught.value)


def test_a_closed_one_cannot_be_entered(spaces: list[Namespace]) -> None:
    spaces[0].close()
    with pytest.raises(NamespaceError, match="Bad file descriptor"):
        spaces[0].run("true")


def test_a_bridge_connects_what_is_plugged_into_it(spaces: list[Namespace]) -> None:
    switch, *ends = spaces
    bridge = Bridge.create(switch, "link", addresses=["192.0.2.1/24"])
    bridge.plug(ends[:2], "eth0")
    bridge.plug(ends[2:], "eth0")  # later
    for number, end in enumerate(ends):
        end.ip([f"address add 192.0.2.{number + 2}/24 dev eth0", "link set dev eth0 up"])
    for neighbour in ("192.0.2.1", "192.0.2.3", "192.0.2.4"):
        ends[0].run(sys.executable, "-c", _CONNECT_REFUSED, neighbour)


# A refused connection is an answer of the other end's kernel.
_CONNECT_REFUSED = """
import socket, sys
try:
    socket.create_connection((sys.argv[1], 9), timeout=5)
except ConnectionRefusedError:
    sys.exit(0)
sys.exit(1)
"""


def test_sysctls_are_those_of_the_namespace(spaces: list[Namespace]) -> None:
    before = Path("/proc/sys/net/ipv6/conf/lo/use_tempaddr").read_text()
    spaces[0].set_sysctls({"ipv6.conf.lo.use_tempaddr": 2})
    assert spaces[0].run("cat", "/proc/sys/net/ipv6/conf/lo/use_tempaddr") == "2\n"
    assert Path("/proc/sys/net/ipv6/conf/lo/use_tempaddr").read_text() == before


def test_isolation_has_no_way_out_and_does_not_see_other_processes() -> None:
    words = isolation.wrapper()
    shown = subprocess.run(
        [*words, "sh", "-c", "ip -o link; ls -d /proc/[0-9]*; echo $$"], capture_output=True, text=True, check=True
    ).stdout
    assert [line.split(": ")[1] for line in shown.splitlines() if ": " in line] == ["lo"]
    assert shown.splitlines()[-1] == "1"
    assert f"/proc/{os.getpid()}" not in shown.splitlines()
