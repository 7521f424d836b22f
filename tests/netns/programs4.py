"""Other makers' DHCPv4 clients and relay, each with a resolv.conf, a /run and a /var/lib of its own."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from dnms.linux.namespaces import Namespace
from tests.netns import debian

SCRIPT = """#!/bin/sh
echo "$@" "$reason" "$new_ip_address$ip" "$new_domain_name_servers$dns" "$search" >> {root}/said
case "$1$reason" in
bound|renew|BOUND|RENEW|REBIND|REBOOT)
    test -n "$new_subnet_mask" || new_subnet_mask=$subnet
    if test -e {root}/declines; then rm {root}/declines; exit 1; fi
    ip address replace "$new_ip_address$ip/$new_subnet_mask" dev "$interface" ;;
deconfig|RELEASE|EXPIRE|STOP)
    ip -4 address flush dev "$interface" ;;
esac
"""


@contextmanager
def udhcpc(machine: Namespace, root: Path, interface: str, *words: str) -> Iterator[subprocess.Popen[bytes]]:
    """Busybox's DHCPv4 client. SIGUSR2 has it release what it has."""
    program = debian.folder_of("busybox") / "usr" / "bin" / "busybox"
    command = [program, "udhcpc", "-f", "-i", interface, "-s", _script(root), *words]
    with _private(machine, root, " ".join(map(str, command))) as process:
        yield process


@contextmanager
def udhcpd(machine: Namespace, root: Path, interface: str, first: str, last: str) -> Iterator[subprocess.Popen[bytes]]:
    """Busybox's DHCPv4 server, which gives the addresses from `first` to `last`."""
    program = debian.folder_of("busybox") / "usr" / "bin" / "busybox"
    says = (
        f"interface {interface}",
        f"start {first}",
        f"end {last}",
        f"lease_file {root}/leases",
        f"pidfile {root}/pid",
    )
    (root / "udhcpd.conf").write_text("\n".join((*says, "option subnet 255.255.255.0", "")))
    with _private(machine, root, f"{program} udhcpd -f -S {root}/udhcpd.conf") as process:
        yield process


@contextmanager
def dhclient(machine: Namespace, root: Path, interface: str, says: str = "") -> Iterator[subprocess.Popen[bytes]]:
    """ISC's client, for DHCPv4. Its end is not the end of its lease: `dhclient_release` is."""
    (root / "dhclient.conf").write_text(says)
    with _private(machine, root, f"{_dhclient(root)} -d {interface}") as process:
        yield process


def dhclient_release(machine: Namespace, root: Path, interface: str) -> None:
    """Have ISC's client give back what it has."""
    with _private(machine, root, f"{_dhclient(root)} -d -r {interface}") as process:
        process.wait(10)


def dhclient_server(root: Path) -> str:
    """The server that has given what it would release, as far as it has written that down; empty if it has nothing."""
    named = re.findall(r"option dhcp-server-identifier ([0-9.]+);", (root / "leases").read_text())
    return named[-1] if named else ""


@contextmanager
def dhcrelay(machine: Namespace, root: Path, *words: str) -> Iterator[subprocess.Popen[bytes]]:
    """ISC's relay, for DHCPv4."""
    program = debian.program("isc-dhcp-relay", "dhcrelay")
    with _private(machine, root, f"{program} -4 -d -pf {root}/dhcrelay.pid {' '.join(words)}") as process:
        yield process


def _dhclient(root: Path) -> str:
    program = debian.program("isc-dhcp-client", "dhclient")
    files = f"-lf {root}/leases -pf {root}/dhclient.pid"
    return f"{program} -4 -cf {root}/dhclient.conf {files} -sf {_script(root)}"


def _script(root: Path) -> Path:
    script = root / "script"
    script.write_text(SCRIPT.format(root=root))
    script.chmod(0o755)
    return script


@contextmanager
def _private(machine: Namespace, root: Path, command: str) -> Iterator[subprocess.Popen[bytes]]:
    """A command in a namespace, with a resolv.conf, a /run and a /var/lib of its own."""
    resolv_conf = root / "resolv.conf"
    resolv_conf.touch()
    mounts = (f"mount --bind {resolv_conf} /etc/resolv.conf", "mount -t tmpfs tmpfs /run")
    private = " && ".join((*mounts, "mount -t tmpfs tmpfs /var/lib", f"exec {command}"))
    with machine.entered(), (root / "client.log").open("ab") as log:
        process = subprocess.Popen(
            ["unshare", "--mount", "--propagation", "private", "sh", "-c", private],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    try:
        yield process
    finally:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(5)
        process.kill()
        process.wait(5)
