"""Other people's programs beside ours, in a namespace and with files of their own."""

from __future__ import annotations

import os
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
    """dhcpcd for these interfaces, or, without, for all that etc/dhcpcd.conf below `root` leaves it."""
    if shutil.which("dhcpcd", path=search_path()) is None:
        pytest.skip("dhcpcd is not installed (Debian: apt-get install dhcpcd-base)")
    own = root / "etc"
    own.mkdir(exist_ok=True)
    for name in ("resolv.conf", "dhcpcd.conf"):  # without the first, it writes this machine's
        (own / name).touch()
    mounts = [f"mount --bind {own / name} /etc/{name}" for name in ("resolv.conf", "dhcpcd.conf")]
    mounts += [f"mount -t tmpfs tmpfs {directory}" for directory in ("/run", "/var/lib/dhcpcd")]
    private = " && ".join((*mounts, f"exec dhcpcd -B --script /bin/true {' '.join(interfaces)}"))
    with machine.entered():
        process = subprocess.Popen(
            ["unshare", "--mount", "--propagation", "private", "sh", "-c", private],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
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
