"""Making an interface again what it was before a change that did not prove itself."""

from __future__ import annotations

from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import structlog

from dnms.disk.node_state import Unproven
from dnms.events.configuration import InterfaceAddress
from dnms.events.ip import is_link_local
from dnms.linux import name_servers, sysctl, time_servers
from dnms.linux.errors import KernelError
from dnms.linux.messages import IFA_F_DADFAILED, MANAGED
from dnms.linux.netlink import Netlink

log = structlog.get_logger(__name__)


async def roll_back(
    netlink: Netlink, was: Unproven, *, interface: str, state: Path, resolv_conf: Path, elapsed: float
) -> None:
    """Give back what stood `elapsed` seconds ago: what is ours and was not there goes, what was there comes again.

    What others have set is there still, since it goes only when a change is proven; it is no longer deprecated.
    KernelError if there is no such interface.
    """
    link = await netlink.link(interface)
    before = {
        (each.address, each.prefix_length): each
        for each in was.snapshot.addresses
        if each.interface == was.interface and not is_link_local(each.address)
    }
    sysctl.restore(was.settings)
    if was.mtu and was.mtu != link.mtu:
        await _attempt(netlink.set_mtu(link.index, was.mtu))
    there = {(each.address, each.prefix_length): each for each in await netlink.addresses(link.index)}
    for key, each in before.items():
        if (now := there.get(key)) is None or now.preferred != each.preferred or now.valid != each.valid:
            await _attempt(_bring_back(netlink, link.index, each, now, elapsed))
    routes = [each for each in was.snapshot.routes if each.interface == was.interface]
    for route in (await netlink.routes())[0]:
        if route.interface == link.index and route.protocol == MANAGED and route not in routes:
            await _attempt(netlink.delete_route(route))
    for route in sorted(routes, key=lambda each: each.gateway is not None):
        if not is_link_local(route.destination.network) and route.destination.network[0] != 0xFF:
            await _attempt(
                netlink.add_route(
                    route.destination,
                    link.index,
                    gateway=route.gateway,
                    metric=route.metric,
                    protocol=route.protocol,
                )
            )
    for key, each in there.items():
        if each.origin == "managed" and key not in before:
            await _attempt(netlink.delete_address(link.index, each.address, each.prefix_length))
    try:
        await name_servers.roll_back(was.snapshot.resolver, interface, link.index, state=state, resolv_conf=resolv_conf)
    except (KernelError, ValueError) as error:
        log.warning("resolver not rolled back", reason=str(error))
    await time_servers.write(interface, () if was.kept is None else was.kept.assignment.ntp)


async def _bring_back(
    netlink: Netlink, interface: int, was: InterfaceAddress, now: InterfaceAddress | None, elapsed: float
) -> None:
    """An address with what is left of its lifetimes; one that is over stays away. KernelError."""
    gone = int(elapsed)
    valid = None if was.valid is None else was.valid - gone
    preferred = None if was.preferred is None else max(0, was.preferred - gone)
    if valid is not None and valid <= 0:
        return
    if now is not None and not now.flags & IFA_F_DADFAILED:
        await netlink.set_lifetimes(now, preferred=preferred, valid=valid)
    elif was.origin != "temporary":  # the kernel makes those itself
        await netlink.add_address(
            interface,
            was.address,
            was.prefix_length,
            preferred=preferred,
            valid=valid,
            protocol=MANAGED if was.origin == "managed" else 0,
            prefix_route=was.origin != "managed",
        )


async def _attempt(change: Coroutine[Any, Any, object]) -> None:
    """One that fails does not keep the others."""
    try:
        await change
    except KernelError as error:
        if error.why != "exists":
            log.warning("not rolled back", reason=str(error))
