"""Programs that look names up, really running in mounts of their own (`debian.use`)."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.netns import debian

ETC = Path("/etc")
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
