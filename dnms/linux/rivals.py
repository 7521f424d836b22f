"""Other programs that manage an interface: which there are, and what to configure so that they leave it alone.

They process Router Advertisements and DHCP themselves, so `accept_ra=0` does not stop them. They are known by their
processes in this network namespace, by what they say of the interface below /run, and by what dhcpcd is told to leave
alone. It does not say below /run which interfaces it has, and its control socket serves one client at a time.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path

import msgspec


class Rival(msgspec.Struct, frozen=True):
    """A program that manages the interface too."""

    name: str
    how: str  # it was recognised
    advice: str  # what makes it leave the interface alone
    has_drop_in: bool = False  # which `leaving_alone` can write


def rivals(interface: str, index: int, *, root: Path = Path("/")) -> tuple[Rival, ...]:
    """Those that manage the interface now, by their names; `root` is the root of the file system."""
    found = {each.name: each for each in (*_managers(interface, index, root), *_clients(interface, root))}
    return tuple(found[name] for name in sorted(found))


def _managers(interface: str, index: int, root: Path) -> Iterator[Rival]:
    """Daemons that say below /run which interfaces they have, while they run in this namespace."""
    running = {name for name, _ in processes(root)}
    if "NetworkManager" in running:
        device = _read(root / f"run/NetworkManager/devices/{index}")
        if re.search(r"^managed=(true|1)$", device, re.MULTILINE):
            yield Rival(
                "NetworkManager",
                f"/run/NetworkManager/devices/{index} says that it manages it",
                f"put `unmanaged-devices+=interface-name:{interface}` below `[keyfile]` into "
                f"/etc/NetworkManager/conf.d/90-dnms-{interface}.conf, and run `nmcli general reload`",
                True,
            )
    if "systemd-network" in running:
        state = _read(root / f"run/systemd/netif/links/{index}")
        admin = re.search(r"^ADMIN_STATE=(\S+)$", state, re.MULTILINE)
        if admin is not None and admin[1] not in ("unmanaged", "initialized", "pending", "linger"):
            yield Rival(
                "systemd-networkd",
                f"/run/systemd/netif/links/{index} says that it is {admin[1]}",
                f"put `[Match]`, `Name={interface}`, `[Link]`, `Unmanaged=yes` into "
                f"/etc/systemd/network/00-dnms-{interface}.network, and run `networkctl reload`",
                True,
            )


_ADVICE = {
    "dhcpcd": "take {0} out of what starts it, and run `dhcpcd -x {0}`",
    "dhclient": "take {0} out of /etc/network/interfaces, and run `dhclient -x {0}`",
    "udhcpc": "take {0} out of what starts it, and end process {1}",
    "dhcp6c": "take {0} out of /etc/wide-dhcpv6/dhcp6c.conf, and end process {1}",
}
_TO_A_MANAGER = (
    "put `denyinterfaces {0}` into /etc/dhcpcd.conf, and restart dhcpcd: it does not let go of {0} otherwise"
)


def _clients(interface: str, root: Path) -> Iterator[Rival]:
    """Clients that were started for this interface, or, without one, for all."""
    for name, process in processes(root):
        if name not in _ADVICE:
            continue
        words = _read(process / "cmdline").split("\0")
        how = f"process {process.name} is {name} for it"
        if words[0].startswith("dhcpcd: "):  # it sets its title: "dhcpcd: eth0 [ip4]", "dhcpcd: [manager] [ip4]"
            words = words[0].split()[1:2]  # and its helpers' too: "dhcpcd: [BPF BOOTP] eth0"
        if "[manager]" in words:
            if not _is_left_by_dhcpcd(interface, process, root):
                yield Rival(name, how, _TO_A_MANAGER.format(interface), True)
        elif interface in words or f"-i{interface}" in words:
            yield Rival(name, how, _ADVICE[name].format(interface, process.name))


def _is_left_by_dhcpcd(interface: str, process: Path, root: Path) -> bool:
    """Whether its configuration kept it from the interface already when it started (dhcpcd.conf(5))."""
    configuration = root / "etc/dhcpcd.conf"
    tick = 1 / os.sysconf("SC_CLK_TCK")  # seconds; the start of a process is cut to it
    try:
        started = int(_read(process / "stat").rpartition(")")[2].split()[19]) * tick
        written = time.time() - configuration.stat().st_mtime  # seconds ago, as the next
        if written + tick < time.clock_gettime(time.CLOCK_BOOTTIME) - started:
            return False
    except (OSError, IndexError):
        return False  # it ended meanwhile, or has no configuration
    # Below such a line stands what is of one interface alone.
    of_all = re.split(r"^\s*(?:interface|profile|ssid)\s", _read(configuration), maxsplit=1, flags=re.MULTILINE)[0]

    def patterns(option: str) -> list[str]:
        return re.findall(r"[^\s,]+", " ".join(re.findall(rf"^\s*{option}\s+([^#\n]*)", of_all, re.MULTILINE)))

    allowed = patterns("allowinterfaces") or ["*"]
    return _matches(interface, patterns("denyinterfaces")) or not _matches(interface, allowed)


def _matches(interface: str, patterns: list[str]) -> bool:
    return any(fnmatchcase(interface, each) for each in patterns)


def processes(root: Path = Path("/")) -> Iterator[tuple[str, Path]]:
    """The short name and the directory of each process of this network namespace; `root` as in `rivals`."""
    proc = root / "proc"
    try:
        own = (proc / "thread-self/ns/net").readlink()  # a thread may have been moved
    except OSError:
        return
    for process in proc.iterdir():
        if not process.name.isdigit():
            continue
        try:
            if (process / "ns/net").readlink() == own:
                yield _read(process / "comm").strip(), process
        except OSError:
            continue  # it has ended, or is another user's


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""
