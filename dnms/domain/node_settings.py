"""The kernel's settings of a managed interface, by their names below /proc/sys."""

from __future__ import annotations

from collections.abc import Collection, Mapping

RA_GATEWAY = "manage-ra-gateway"

AUTOCONFIGURATION = {
    "net/ipv6/conf/{}/autoconf": "0",
    "net/ipv6/conf/{}/use_tempaddr": "0",
    "net/ipv6/conf/{}/accept_ra": "0",
    # An administrator's down and up then leaves at least the addresses that are for ever.
    "net/ipv6/conf/{}/keep_addr_on_down": "1",
    # The kernel draws the random delay before DAD from it, up to a second. That delay parts nodes which one multicast
    # has woken (RFC 4862, 5.4.2); ours are assigned their addresses one by one, after discovery's own random delay.
    "net/ipv6/conf/{}/router_solicitation_delay": "0",
}
"""Stops autoconfiguration, and removes nothing that came by it before."""

OPTIMISTIC = ("net/ipv6/conf/{}/optimistic_dad", "net/ipv6/conf/{}/use_optimistic")
"""Let an address be used, and be chosen as a source, while the kernel looks for duplicates of it (RFC 4429)."""

ACCEPT_RA = "net/ipv6/conf/{}/accept_ra"
FORWARDING6 = "net/ipv6/conf/{}/forwarding"

PROMOTE_SECONDARIES = "net/ipv4/conf/{}/promote_secondaries"
"""Without it, deleting the first IPv4 address of a prefix deletes the others of that prefix, ours among them."""


def settings_of(
    interface: str,
    families: Collection[int],
    mode: str = "manage",
    now: Mapping[str, str] | None = None,
    *,
    optimistic: bool = False,
) -> dict[str, str]:
    """What is set on an interface of whose `families` the addresses are ours. `now`: what is set already."""
    settings: dict[str, str] = {}
    if 6 in families:
        settings = {name.format(interface): value for name, value in AUTOCONFIGURATION.items()}
        if optimistic:
            settings |= {name.format(interface): "1" for name in OPTIMISTIC}
        if mode == RA_GATEWAY:
            # A node that forwards heeds advertisements by 2 only (the kernel's ip-sysctl).
            forwards = _setting(now or {}, FORWARDING6, interface) == "1"
            settings[ACCEPT_RA.format(interface)] = "2" if forwards else "1"
    if 4 in families:
        settings[PROMOTE_SECONDARIES.format(interface)] = "1"
    return settings


def unset(wanted: Mapping[str, str], now: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    """Those that are known not to be as they should, with what they should be and what they are.

    A snapshot tells of some settings, and of an interface only what differs from the defaults.
    """
    known = {name: (value, _known(name, now)) for name, value in wanted.items()}
    return {name: (value, is_) for name, (value, is_) in known.items() if is_ is not None and is_ != value}


def _known(name: str, now: Mapping[str, str]) -> str | None:
    place, _, rest = name.rpartition("/")
    return now.get(name, now.get(f"{place.rpartition('/')[0]}/default/{rest}"))


def _setting(now: Mapping[str, str], pattern: str, interface: str) -> str:
    """A snapshot tells of an interface only what differs from the defaults."""
    return now.get(pattern.format(interface), now.get(pattern.format("default"), ""))
