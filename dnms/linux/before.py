"""What a machine was before DNMS took an interface over, kept in a directory so that it can be so again."""

from __future__ import annotations

from pathlib import Path

import msgspec

from dnms.events.configuration import InterfaceAddress, Resolver, Route
from dnms.linux.errors import KernelError
from dnms.linux.messages import MANAGED, RTPROT_DHCP, RTPROT_KERNEL, RTPROT_RA

FILE = "before.{}.json"


class ResolverBefore(msgspec.Struct, frozen=True, kw_only=True):
    """What systemd-resolved or resolvconf had; resolv.conf is kept as the file that it is."""

    said: Resolver  # as it was read, of whoever it was
    servers: tuple[tuple[int, bytes, int, str], ...] = ()  # the interface's own: family, address, port, TLS name
    domains: tuple[tuple[str, bool], ...] = ()  # the interface's own, and whether they are not searched in
    default_route: bool = False  # whether it is asked for what no other interface is asked for


class Before(msgspec.Struct, kw_only=True):
    """Settings, and addresses and routes that somebody had set. What was kept first stays: it is the oldest."""

    sysctls: dict[str, str] = {}
    mtu: int = 0  # bytes; 0: it was not changed
    addresses: list[InterfaceAddress] = []
    routes: list[Route] = []
    resolvers: dict[str, ResolverBefore] = {}  # by program: a machine may come to use another one


def load(state: Path, interface: str) -> Before:
    """What is kept of this interface; empty if nothing is, or if a power cut left no whole file."""
    try:
        return msgspec.json.decode((state / FILE.format(interface)).read_bytes(), type=Before)
    except (OSError, msgspec.DecodeError):
        return Before()


def keep(
    state: Path,
    interface: str,
    *,
    sysctls: dict[str, str] | None = None,
    mtu: int = 0,
    addresses: tuple[InterfaceAddress, ...] = (),
    routes: tuple[Route, ...] = (),
    resolvers: dict[str, ResolverBefore] | None = None,
) -> None:
    """Add to what is kept, before it is changed or removed. KernelError if it cannot be kept.

    Only what was set for ever is kept: what came by autoconfiguration or DHCP comes back by itself, or is over.
    """
    before = load(state, interface)
    known = {_key(each) for each in before.addresses}  # with the lifetimes that they had before they were deprecated
    fresh = Before(
        sysctls={**(sysctls or {}), **before.sysctls},
        mtu=before.mtu or mtu,
        addresses=before.addresses + [each for each in addresses if _is_set(each) and _key(each) not in known],
        routes=before.routes + [each for each in routes if _is_set(each) and each not in before.routes],
        resolvers={**(resolvers or {}), **before.resolvers},
    )
    if fresh == before:
        return
    path = state / FILE.format(interface)
    try:
        state.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(".new")
        temporary.write_bytes(msgspec.json.encode(fresh))
        temporary.replace(path)
    except OSError as error:
        raise KernelError.from_errno(error.errno or 0, f"write {path}") from error


def _key(held: InterfaceAddress) -> tuple[bytes, int]:
    return held.address, held.prefix_length


def _is_set(each: InterfaceAddress | Route) -> bool:
    if isinstance(each, InterfaceAddress):
        return each.origin == "other" and each.valid is None
    return each.protocol not in (MANAGED, RTPROT_KERNEL, RTPROT_RA, RTPROT_DHCP)


def forget(state: Path, interface: str) -> None:
    """It is so again."""
    (state / FILE.format(interface)).unlink(missing_ok=True)
