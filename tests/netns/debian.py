"""Debian's packages that would take this machine over if they were installed: unpacked, and seen by one test alone.

`python -m tests.netns.debian` gets them, as `make test` does. systemd-resolved and resolvconf write resolv.conf as
soon as they are installed, and are in each other's way.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from dnms.cli.doctor import InstallError, install_packages
from dnms.linux.namespaces import mount_tmpfs, search_path

UNPACKED = Path(sys.prefix) / "debian"
PACKAGES = ("chrony", "openresolv", "resolvconf", "systemd-resolved", "systemd-timesyncd")
PEERS = (
    "busybox",
    "dnsmasq-base",
    "isc-dhcp-client",
    "isc-dhcp-relay",
    "isc-dhcp-server",
    "kea-admin",
    "kea-dhcp4-server",
    "kea-dhcp6-server",
    "radvdump",
    "wide-dhcpv6-client",
)
"""Other makers' programs, of which most packages would start a service."""
LIBRARIES = (
    "kea-common",
    "libcom-err2",
    "libfl2",
    "libgssapi-krb5-2",
    "libk5crypto3",
    "libkeyutils1",
    "libkrb5-3",
    "libkrb5support0",
    "libldap-2.5-0",
    "liblog4cplus-2.0.5",
    "libmariadb3",
    "libpq5",
    "libsasl2-2",
)
"""What those need beside what every Debian has."""
INSTALLED = ("dbus-daemon", "systemd")
"""What those need and what harms nobody: it starts nothing here."""

USERS = {"systemd-resolve": 64990, "systemd-timesync": 64991, "_chrony": 64992}
"""Those that the packages would make."""


def use(folder: Path, *packages: str) -> None:
    """Have the packages in /usr and /etc, and /run empty; only after `private_mounts`."""
    lower = [folder_of(package) for package in packages]
    folder.mkdir()
    mount_tmpfs(folder, size=16 << 20)  # the upper layer cannot be in a container's own
    for name in ("usr", "etc"):
        upper, work = folder / name, folder / f"{name}.work"
        upper.mkdir()
        work.mkdir()
        layers = [str(each / name) for each in lower if (each / name).is_dir()]
        options = f"lowerdir={':'.join((*layers, f'/{name}'))},upperdir={upper},workdir={work}"
        subprocess.run(["mount", "-t", "overlay", "-o", options, "overlay", f"/{name}"], check=True)
    for name, entry in (("passwd", "{0}:x:{1}:{1}::/:/usr/sbin/nologin\n"), ("group", "{0}:x:{1}:\n")):
        with Path("/etc", name).open("r+") as file:
            there = {line.partition(":")[0] for line in file}
            file.writelines(entry.format(user, number) for user, number in USERS.items() if user not in there)
    mount_tmpfs(Path("/run"), size=16 << 20)
    Path("/run").chmod(0o755)


def folder_of(package: str) -> Path:
    """Where a package is unpacked; a test that needs one that is not is skipped, and fails in CI."""
    folder = UNPACKED / package
    if not folder.is_dir():
        pytest.skip(f"Debian's {package} is not unpacked: python -m tests.netns.debian")
    return folder


def program(package: str, name: str) -> Path:
    """The program of a package that is unpacked, below /usr/sbin."""
    return folder_of(package) / "usr" / "sbin" / name


def environment() -> dict[str, str]:
    """What a program that is unpacked is started with, to find the libraries that are unpacked."""
    folders = [folder for each in LIBRARIES for folder in folder_of(each).glob("usr/lib/*-linux-gnu")]
    return {**os.environ, "LD_LIBRARY_PATH": os.pathsep.join(map(str, folders))}


def main() -> int:
    """Unpack what is missing; 0 also where that cannot be, since the tests say what they lack."""
    apt_get = shutil.which("apt-get", path=search_path())
    missing = [package for package in (*PACKAGES, *PEERS, *LIBRARIES) if not (UNPACKED / package).is_dir()]
    try:
        absent = [package for package in INSTALLED if not _is_installed(package)]
        if absent:
            install_packages(absent)
        if missing and apt_get is not None:
            print(f"unpacking Debian's packages for the tests, without installing them: {' '.join(missing)}")
            _unpack(apt_get, missing)
    except (InstallError, OSError, subprocess.CalledProcessError) as error:
        print(f"some tests are skipped: {error}", file=sys.stderr)
    return 0


def _is_installed(package: str) -> bool:
    words = ["dpkg-query", "--show", "--showformat=${db:Status-Abbrev}", package]
    return subprocess.run(words, capture_output=True, text=True, check=False).stdout.startswith("ii")


def _unpack(apt_get: str, packages: list[str]) -> None:
    subprocess.run([apt_get, "update", "-qq"], stdout=sys.stderr, check=True)
    UNPACKED.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=UNPACKED) as scratch:
        subprocess.run([apt_get, "download", "-qq", *packages], cwd=scratch, stdout=sys.stderr, check=True)
        for package in packages:
            (archive,) = Path(scratch).glob(f"{package}_*.deb")
            whole = Path(scratch) / package
            subprocess.run(["dpkg-deb", "--extract", archive, whole], check=True)
            for name in ("bin", "lib", "sbin"):  # as on a machine, where /lib is in /usr
                if (whole / name).is_dir():
                    shutil.copytree(whole / name, whole / "usr" / name, symlinks=True, dirs_exist_ok=True)
            whole.rename(UNPACKED / package)


if __name__ == "__main__":
    sys.exit(main())
