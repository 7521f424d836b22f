"""Programs that look names up and keep the time, really running in mounts of their own (`debian.use`)."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from dnms.linux.namespaces import mount_tmpfs
from tests.netns import debian

ETC = Path("/etc")
CHRONY_CONF = Path("/etc/chrony/chrony.conf")
STUB = Path("/run/systemd/resolve/stub-resolv.conf")

BUS = Path("/run/dbus/system_bus_socket")
BUS_CONFIGURATION = """<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "dbus-1.0/busconfig.dtd">
<busconfig>
  <type>system</type>
  <listen>unix:path=/run/dbus/system_bus_socket</listen>
  <auth>EXTERNAL</auth>
  <policy context="default">
    <allow user="*"/><allow own="*"/><allow send_type="method_call"/><allow send_destination="*"/>
    <allow receive_sender="*"/>
  </policy>
</busconfig>
"""


def until(condition: Callable[[], bool], *, seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never came to that"
        time.sleep(0.02)


@contextmanager
def running(*words: str | Path) -> Iterator[subprocess.Popen[bytes]]:
    """A daemon in the namespaces of this thread, until the block ends."""
    nothing = subprocess.DEVNULL
    process = subprocess.Popen(words, stdin=nothing, stdout=nothing, stderr=nothing)
    try:
        yield process
    finally:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(5)
        process.kill()
        process.wait(5)


@contextmanager
def system_bus() -> Iterator[None]:
    """A D-Bus of its own on which everybody may do everything."""
    BUS.parent.mkdir()
    configuration = BUS.with_name("bus.conf")
    configuration.write_text(BUS_CONFIGURATION)
    with running("dbus-daemon", f"--config-file={configuration}", "--nofork", "--nopidfile"):
        until(BUS.exists)
        yield


@contextmanager
def systemd_resolved(folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """It has resolv.conf, as its package makes it."""
    debian.use(folder, "systemd-resolved")
    link("../run/systemd/resolve/stub-resolv.conf")
    with system_bus(), resolved_process() as process:
        yield process


@contextmanager
def resolved_process() -> Iterator[subprocess.Popen[bytes]]:
    """The daemon alone."""
    own(STUB.parent, "systemd-resolve")
    with running("/usr/lib/systemd/systemd-resolved") as process:
        until(lambda: STUB.exists() and "resolve1" in bus_names())
        yield process


def bus_names() -> str:
    words = ("busctl", "--system", "--acquired", "--no-legend", "list")
    return subprocess.run(words, capture_output=True, text=True, check=False, timeout=10).stdout


def resolvectl(*words: str) -> str:
    done = subprocess.run(("resolvectl", *words), capture_output=True, text=True, check=True, timeout=10)
    return done.stdout


def debians_resolvconf(folder: Path) -> None:
    """As its package and its unit at boot leave it."""
    debian.use(folder, "resolvconf")
    link("../run/resolvconf/resolv.conf")
    Path("/run/resolvconf/interface").mkdir(parents=True)
    resolvconf("--enable-updates")
    resolvconf("-u")


def openresolv(folder: Path) -> None:
    """Once somebody has told it of servers."""
    debian.use(folder, "openresolv")
    (ETC / "resolv.conf").unlink()
    resolvconf("-a", "eth9.dhcp", stdin="nameserver 192.0.2.66\n")


def resolvconf(*words: str, stdin: str = "") -> None:
    subprocess.run(("resolvconf", *words), input=stdin, text=True, check=True, timeout=10)


def link(target: str) -> None:
    """Make resolv.conf a link."""
    (ETC / "resolv.conf").unlink()
    (ETC / "resolv.conf").symlink_to(target)


def own(folder: Path, user: str, *, mode: int = 0o755) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(mode)
    shutil.chown(folder, user, user)


TIMESYNCD_PID = Path("/run/timesyncd.pid")
SYSTEMCTL = """#!/bin/sh
test "$*" = "try-restart systemd-timesyncd.service" || exit 1
kill -9 $(cat /run/timesyncd.pid)
/usr/lib/systemd/systemd-timesyncd & # it keeps what is open
echo $! > /run/timesyncd.pid
until grep -q systemd-timesyn /proc/$!/comm; do :; done
"""
"""There is no systemd that could do it."""


@contextmanager
def timesyncd(folder: Path) -> Iterator[None]:
    """It runs, and `systemctl` restarts it."""
    debian.use(folder, "systemd-timesyncd")
    Path("/run/systemd/system").mkdir(parents=True)
    own(Path("/run/systemd/timesync"), "systemd-timesync")
    mount_tmpfs(Path("/var/lib/systemd"), size=1 << 20)
    Path("/var/lib/systemd").chmod(0o755)
    own(Path("/var/lib/systemd/timesync"), "systemd-timesync")
    systemctl = Path("/usr/bin/systemctl")
    systemctl.unlink(missing_ok=True)
    systemctl.write_text(SYSTEMCTL)
    systemctl.chmod(0o755)
    with system_bus(), _replaced("/usr/lib/systemd/systemd-timesyncd", TIMESYNCD_PID):
        until(lambda: "timesync1" in bus_names())
        yield


@contextmanager
def _replaced(program: str, pid: Path) -> Iterator[None]:
    """A daemon which is started anew meanwhile by somebody else, who writes its number into a file."""
    process = subprocess.Popen((program,), stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    pid.write_text(f"{process.pid}\n")
    try:
        yield
    finally:
        with suppress(ProcessLookupError):
            os.kill(int(pid.read_text()), signal.SIGKILL)
        process.kill()
        process.wait(5)


def timesyncds_servers() -> list[str]:
    """What it has been configured with; empty while it is starting."""
    path, name = "/org/freedesktop/timesync1", "org.freedesktop.timesync1"
    words = ("busctl", "--system", "get-property", name, path, f"{name}.Manager", "SystemNTPServers")
    said = subprocess.run(words, capture_output=True, text=True, check=False, timeout=10).stdout
    return [word.strip('"') for word in said.split()[2:]]


def have_chrony(folder: Path) -> None:
    """It is installed, as its package configures it."""
    debian.use(folder, "chrony")
    shutil.copy("/usr/share/chrony/chrony.conf", CHRONY_CONF)


@contextmanager
def chronyd() -> Iterator[None]:
    """The daemon, which leaves the clock alone and asks nobody outside."""
    text = CHRONY_CONF.read_text()
    CHRONY_CONF.write_text(re.sub("^(pool|keyfile|ntsdumpdir|logdir|makestep|rtcsync)", "#", text, flags=re.MULTILINE))
    with CHRONY_CONF.open("a") as file:
        file.write("driftfile /run/chrony/drift\ncmdport 0\nport 0\n")
    own(Path("/run/chrony"), "_chrony", mode=0o750)
    with running("/usr/sbin/chronyd", "-x", "-d"):
        until(lambda: subprocess.run(("chronyc", "tracking"), capture_output=True, check=False).returncode == 0)
        yield


def chronys_servers() -> set[str]:
    """Those that it asks."""
    done = subprocess.run(("chronyc", "-c", "-n", "sources"), capture_output=True, text=True, check=True, timeout=10)
    return {line.split(",")[2] for line in done.stdout.splitlines()}
