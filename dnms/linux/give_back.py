"""Giving an interface back: what DNMS set goes, what was there before comes again."""

from __future__ import annotations

import asyncio
from pathlib import Path

import structlog

from dnms.linux import before, leaving_alone, name_servers, sysctl, time_servers
from dnms.linux.errors import KernelError
from dnms.linux.messages import IFA_F_NOPREFIXROUTE, MANAGED
from dnms.linux.netlink import Netlink
from dnms.linux.solicitation import solicit_routers

log = structlog.get_logger(__name__)


async def give_back(
    netlink: Netlink, *, interface: str, state: Path, resolv_conf: Path, root: Path = Path("/")
) -> None:
    """Undo every `apply` on this interface: addresses, routes, settings, DNS and time servers, and what other managers
    were told.

    `root` is the root of the file system that these are configured in. KernelError if it is not allowed.
    Routers are asked for an advertisement, so autoconfiguration is back within seconds if it was on.
    """
    link = await netlink.link(interface)
    was = before.load(state, interface)
    for held in await netlink.addresses(link.index):
        if held.origin == "managed":
            await netlink.delete_address(link.index, held.address, held.prefix_length)
    for route in (await netlink.routes())[0]:
        if route.interface == link.index and route.protocol == MANAGED:
            await netlink.delete_route(route)
    sysctl.restore(was.sysctls)
    if was.mtu:
        try:
            await netlink.set_mtu(link.index, was.mtu)
        except KernelError as error:
            log.warning("MTU not brought back", interface=interface, reason=str(error))
    await name_servers.give_back(interface, link.index, state=state, resolv_conf=resolv_conf)
    await time_servers.write(interface, ())
    for address in was.addresses:
        try:
            await netlink.add_address(
                link.index,
                address.address,
                address.prefix_length,
                preferred=address.preferred,
                valid=None,
                protocol=0,
                prefix_route=not address.flags & IFA_F_NOPREFIXROUTE,
            )
        except KernelError as error:
            log.warning("address not brought back", interface=interface, reason=str(error))
    for route in was.routes:
        try:
            await netlink.add_route(
                route.destination, link.index, gateway=route.gateway, metric=route.metric, protocol=route.protocol
            )
        except KernelError as error:
            log.warning("route not brought back", interface=interface, reason=str(error))
    before.forget(state, interface)
    await asyncio.to_thread(leaving_alone.undo, interface, state=state, root=root)
    try:
        solicit_routers(link.index)
    except KernelError as error:
        log.info("routers not asked", interface=interface, reason=str(error))  # the link may be down
