"""Other programs that manage an interface: which there are, and what to configure so that they leave it alone.

They process Router Advertisements and DHCP themselves, so `accept_ra=0` does not stop them. They are known by their
processes in this network namespace, and by what they say of the interface below /run.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import msgspec

PROC, RUN = Path("/proc"), Path("/run")


class Rival(msgspec.Struct, frozen=True):
    """A program that manages the interface too."""

    name: str
    how: str  # it was recognised
    advice: str  # what makes it leave the interface alone


def rivals(interface: str, index: int, *, proc: Path = PROC, run: Path = RUN) -> tuple[Rival, ...]:
    """Those that manage the interface now, by their names."""
    found = {each.name: each for each in (*_managers(interface, index, proc, run), *_clients(interface, proc))}
    return tuple(found[name] for name in sorted(found))


def _managers(interface: str, index: int, proc: Path, run: Path) -> Iterator[Rival]:
    """Daemons that say below /run which interfaces they have, while they run in this namespace."""
    running = {name for name, _ in _processes(proc)}
    if "NetworkManager" in running:
        device = _read(run / f"NetworkManager/devices/{index}")
        if re.search(r"^managed=(true|1)$", device, re.MULTILINE):
            yield Rival(
                "NetworkManager",
                f"/run/NetworkManager/devices/{index} says that it manages it",
                f"put `unmanaged-devices=interface-name:{interface}` below `[keyfile]` into "
                f"/etc/NetworkManager/conf.d/dnms-{interface}.conf, and run `nmcli general reload`",
            )
    if "systemd-network" in running:
        state = _read(run / f"systemd/netif/links/{index}")
        admin = re.search(r"^ADMIN_STATE=(\S+)$", state, re.MULTILINE)
        if admin is not None and admin[1] not in ("unmanaged", "initialized", "pending", "linger"):
            yield Rival(
                "systemd-networkd",
                f"/run/systemd/netif/links/{index} says that it is {admin[1]}",
                f"put `[Match]`, `Name={interface}`, `[Link]`, `Unmanaged=yes` into "
                f"/etc/systemd/network/00-dnms-{interface}.network, and run `networkctl reload`",
            )


_ADVICE = {
    "dhcpcd": "put `denyinterfaces {0}` into /etc/dhcpcd.conf, and run `dhcpcd -x {0}`",
    "dhclient": "take {0} out of /etc/network/interfaces, and run `dhclient -x {0}`",
    "udhcpc": "take {0} out of what starts it, and end process {1}",
    "dhcp6c": "take {0} out of /etc/wide-dhcpv6/dhcp6c.conf, and end process {1}",
}


def _clients(interface: str, proc: Path) -> Iterator[Rival]:
    """Clients that were started for this interface, or, without one, for all."""
    for name, process in _processes(proc):
        if name not in _ADVICE:
            continue
        words = _read(process / "cmdline").split("\0")
        named = interface in words or any(word == f"-i{interface}" for word in words)
        # dhcpcd sets its title: "dhcpcd: eth0 [ip4] [ip6]"; its master has all that are not denied.
        title = words[0] if name == "dhcpcd" else ""
        of_it = re.match(rf"dhcpcd: ({re.escape(interface)}\b|\[manager\])", title)
        if named or of_it:
            how = f"process {process.name} is {name} for it"
            yield Rival(name, how, _ADVICE[name].format(interface, process.name))


def _processes(proc: Path) -> Iterator[tuple[str, Path]]:
    """The short name and the directory of each process of this network namespace."""
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
