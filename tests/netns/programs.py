"""Other people's programs beside ours, in a namespace and with files of their own."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from dnms.linux.namespaces import Namespace, search_path
from tests.netns import debian


@contextmanager
def radvd(machine: Namespace, directory: Path, says: str) -> Iterator[None]:
    """A router that advertises itself."""
    program = shutil.which("radvd", path=search_path())
    if program is None:
        pytest.skip("radvd is not installed (Debian: apt-get install radvd)")
    configuration = directory / "radvd.conf"
    configuration.write_text(says)
    configuration.chmod(0o644)
    machine.set_sysctls({"ipv6.conf.all.forwarding": 1})
    with machine.entered():
        process = subprocess.Popen(
            [program, "-n", "-m", "stderr", "-C", configuration, "-p", directory / "radvd.pid"],
            stdin=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
    try:
        yield
    finally:
        process.terminate()  # it takes leave: an advertisement with a lifetime of 0
        process.wait(10)


@contextmanager
def dhcpcd(machine: Namespace, root: Path, *interfaces: str) -> Iterator[subprocess.Popen[bytes]]:
    """dhcpcd for these interfaces, or, without, for all that etc/dhcpcd.conf below `root` leaves it.

    As one process: before 10.3 the one that has a Release to send may end before its proxy has sent it (its issues 513
    and 536). It is one where its user is unknown.
    """
    if shutil.which("dhcpcd", path=search_path()) is None:
        pytest.skip("dhcpcd is not installed (Debian: apt-get install dhcpcd-base)")
    own = root / "etc"
    own.mkdir(exist_ok=True)
    names = ("resolv.conf", "dhcpcd.conf", "passwd")
    for name in names:  # without the first, it writes this machine's
        (own / name).touch()
    (own / "passwd").write_text("root:x:0:0:root:/root:/bin/sh\n")
    mounts = [f"mount --bind {own / name} /etc/{name}" for name in names]
    mounts += [f"mount -t tmpfs tmpfs {directory}" for directory in ("/run", "/var/lib/dhcpcd")]
    private = " && ".join((*mounts, f"exec dhcpcd -B --script /bin/true {' '.join(interfaces)}"))
    with machine.entered(), (root / "dhcpcd.log").open("ab") as log:
        process = subprocess.Popen(
            ["unshare", "--mount", "--propagation", "private", "sh", "-c", private],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        for number in (signal.SIGTERM, signal.SIGKILL):  # it has helpers in its group
            with suppress(ProcessLookupError):
                os.killpg(process.pid, number)
            with suppress(subprocess.TimeoutExpired):
                process.wait(3)


@contextmanager
def dhcp6c(machine: Namespace, root: Path, says: str, interface: str) -> Iterator[subprocess.Popen[bytes]]:
    """KAME's client (Debian's wide-dhcpv6-client). Terminated, it releases what it has."""
    program = debian.program("wide-dhcpv6-client", "dhcp6c")
    configuration = root / "dhcp6c.conf"
    configuration.write_text(says)
    resolv_conf = root / "resolv.conf"
    resolv_conf.touch()
    private = " && ".join(
        (
            f"mount --bind {resolv_conf} /etc/resolv.conf",
            "mount -t tmpfs tmpfs /run",
            "mount -t tmpfs tmpfs /var/lib",
            "mkdir /var/lib/dhcpv6",
            f"exec {program} -f -D -c {configuration} -p /run/dhcp6c.pid {interface}",
        )
    )
    with machine.entered(), (root / "dhcp6c.log").open("wb") as log:
        process = subprocess.Popen(
            ["unshare", "--mount", "--propagation", "private", "sh", "-c", private],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=debian.environment(),
        )
    try:
        yield process
    finally:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(5)
        process.kill()
        process.wait(5)


@contextmanager
def dhclient(
    machine: Namespace, root: Path, says: str, interface: str, *words: str
) -> Iterator[subprocess.Popen[bytes]]:
    """ISC's client for IPv6 (Debian's isc-dhcp-client), that looks for duplicates as its manual would have it.

    `words` are for it alone, such as -r to release; its lease is in `root`.
    """
    package = debian.folder_of("isc-dhcp-client")
    for name, text in (("dhclient.conf", says), ("dhclient.leases", ""), ("resolv.conf", "")):
        if text or not (root / name).exists():
            (root / name).write_text(text)
    script = root / "dhclient-script"
    script.write_text((package / "usr/sbin/dhclient-script").read_text().replace("exit_with_hooks 0", _DETECT))
    script.chmod(0o755)
    files = f"-cf {root}/dhclient.conf -lf {root}/dhclient.leases -pf {root}/dhclient.pid -sf {script}"
    private = " && ".join(
        (
            f"mkdir -p {root}/layers",
            f"mount -t tmpfs tmpfs {root}/layers",
            f"mkdir {root}/layers/up {root}/layers/work",
            f"mount -t overlay -o lowerdir=/etc,upperdir={root}/layers/up,workdir={root}/layers/work overlay /etc",
            f"mount --bind {root}/resolv.conf /etc/resolv.conf",
            "mount -t tmpfs tmpfs /run",
            f"exec {package}/usr/sbin/dhclient -6 -d {files} {' '.join(words)} {interface}",
        )
    )
    with machine.entered(), (root / "dhclient.log").open("ab") as log:
        process = subprocess.Popen(
            ["unshare", "--mount", "--propagation", "private", "sh", "-c", private],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait(5)
        (root / "dhclient.pid").unlink(missing_ok=True)  # which it has not removed, and the next one would kill


def dhclient_server(root: Path) -> str:
    """The server (its DUID) of what it would release, as far as it has written that down; empty if it has nothing."""
    named = re.findall(r"option dhcp6\.server-id ([0-9a-f:]+);", (root / "dhclient.leases").read_text())
    return named[-1] if named else ""


@contextmanager
def dhcrelay(machine: Namespace, root: Path, *words: str) -> Iterator[None]:
    """ISC's relay for IPv6 (Debian's isc-dhcp-relay)."""
    program = debian.program("isc-dhcp-relay", "dhcrelay")
    with machine.entered(), (root / "dhcrelay.log").open("ab") as log:
        process = subprocess.Popen(
            [program, "-6", "-d", "--no-pid", *words], stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
    try:
        yield
        assert process.poll() is None
    finally:
        process.kill()
        process.wait(5)


@contextmanager
def dnsmasq_relay(machine: Namespace, root: Path, local: str, to: str, *interfaces: str) -> Iterator[None]:
    """dnsmasq as nothing but a relay for DHCPv4 or DHCPv6, from a link on which it is `local` to a server."""
    program = debian.program("dnsmasq-base", "dnsmasq")
    files = ("--conf-file=/dev/null", "--pid-file", f"--dhcp-leasefile={root}/dnsmasq.leases", "--user=root")
    words = ("--keep-in-foreground", "--port=0", "--log-facility=-", "--log-dhcp", f"--dhcp-relay={local},{to}")
    with machine.entered(), (root / "dnsmasq.log").open("ab") as log:
        process = subprocess.Popen(
            [program, *files, *words, *(f"--interface={each}" for each in interfaces)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=debian.environment(),
        )
    try:
        yield
        assert process.poll() is None
    finally:
        process.kill()
        process.wait(5)


_DETECT = """
if [ "$reason" = BOUND6 ] && [ "$new_ip6_address" ]; then
    for _ in $(seq 100); do
        shown=$(ip -6 -o address show dev "$interface" to "$new_ip6_address")
        case "$shown" in "" | *dadfailed*) exit_with_hooks 3 ;; *tentative*) sleep 0.05 ;; *) break ;; esac
    done
fi
exit_with_hooks 0"""


@contextmanager
def networkd(machine: Namespace, root: Path, says: str) -> Iterator[subprocess.Popen[bytes]]:
    """systemd-networkd, with this one .network file."""
    program = Path("/usr/lib/systemd/systemd-networkd")
    if not program.exists():
        pytest.skip("systemd is not installed (Debian: apt-get install systemd)")
    configuration = root / "eth0.network"
    configuration.write_text(says)
    private = " && ".join(
        (
            "mount -t sysfs -o ro sysfs /sys",  # else it waits for udev
            "mount -t tmpfs tmpfs /run",
            "mkdir -p /run/systemd/network /run/systemd/netif/links /run/systemd/netif/leases /run/systemd/netif/lldp",
            "chown -R systemd-network:systemd-network /run/systemd/netif",
            f"cp {configuration} /run/systemd/network/",
            "chmod 644 /run/systemd/network/eth0.network",
            f"exec {program}",
        )
    )
    with machine.entered(), (root / "networkd.log").open("wb") as log:
        process = subprocess.Popen(
            ["unshare", "--mount", "--propagation", "private", "sh", "-c", private],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env={**os.environ, "SYSTEMD_LOG_LEVEL": "debug", "SYSTEMD_LOG_TARGET": "console"},
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait(5)
