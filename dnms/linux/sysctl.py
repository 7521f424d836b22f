"""The kernel's settings below /proc/sys/net, of the namespace of the thread that asks.

Names are written with slashes, `net/ipv6/conf/eth0/accept_ra`, since interface names may have dots.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from dnms.linux.errors import KernelError

ROOT = Path("/proc/sys")

OF_AN_INTERFACE = (
    "net/ipv6/conf/{}/accept_ra",
    "net/ipv6/conf/{}/addr_gen_mode",
    "net/ipv6/conf/{}/autoconf",
    "net/ipv6/conf/{}/disable_ipv6",
    "net/ipv6/conf/{}/forwarding",
    "net/ipv6/conf/{}/keep_addr_on_down",
    "net/ipv6/conf/{}/optimistic_dad",
    "net/ipv6/conf/{}/use_tempaddr",
    "net/ipv4/conf/{}/forwarding",
    "net/ipv4/conf/{}/promote_secondaries",
    "net/ipv4/conf/{}/rp_filter",
)
WATCHED = tuple(f"net/ipv6/conf/{{}}/{name}" for name in ("accept_ra", "autoconf", "disable_ipv6", "use_tempaddr"))
MAX_INTERFACES = 256  # a snapshot tells of the first so many; it has to stay under 256 KiB


def read(name: str) -> str:
    """A setting's value; KernelError `not-there` if this kernel has none of that name."""
    try:
        return (ROOT / name).read_text().strip()
    except OSError as error:
        raise KernelError.from_errno(error.errno or 0, f"read {name}") from error


def write(name: str, value: str) -> None:
    """Set a setting; KernelError."""
    try:
        (ROOT / name).write_text(f"{value}\n")
    except OSError as error:
        raise KernelError.from_errno(error.errno or 0, f"set {name} to {value}") from error


def differing(wanted: Mapping[str, str]) -> dict[str, str]:
    """What is set now, of the settings that are not as wanted.

    Those that this kernel does not have (one without IPv6, for one) are left out: there is nothing to turn off.
    """
    now: dict[str, str] = {}
    for name, value in wanted.items():
        try:
            now[name] = read(name)
        except KernelError as error:
            if error.why != "not-there":
                raise
        if now.get(name) == value:
            del now[name]
    return now


def change(wanted: Mapping[str, str]) -> dict[str, str]:
    """Set what is not as wanted, and return what was set before."""
    before = differing(wanted)
    for name in before:
        write(name, wanted[name])
    return before


def restore(before: Mapping[str, str]) -> None:
    """Set back what was changed. An interface that is gone needs nothing."""
    change(before)


def snapshot(interfaces: Iterable[str]) -> dict[str, str]:
    """The settings that matter: the defaults, and of each interface those that differ from them."""
    settings: dict[str, str] = {}
    for pattern in OF_AN_INTERFACE:
        default = pattern.format("default")
        _take(settings, default)
    for interface in list(interfaces)[:MAX_INTERFACES]:
        for pattern in OF_AN_INTERFACE:
            name = pattern.format(interface)
            _take(settings, name)
            if settings.get(name) == settings.get(pattern.format("default")):
                settings.pop(name, None)
    return settings


def watched(interface: str) -> tuple[str, ...]:
    """The settings of an interface that are looked at every second; empty for one that this kernel does not have."""
    found: dict[str, str] = {}
    names = [name.format(interface) for name in WATCHED]
    for name in names:
        _take(found, name)
    return tuple(found.get(name, "") for name in names)


def _take(settings: dict[str, str], name: str) -> None:
    try:
        settings[name] = read(name)
    except KernelError:
        return  # not of this kernel, or its interface has gone meanwhile
