"""Duplicate Address Detection of IPv6 (RFC 4862, 5.4): the kernel does it, and tells its outcome by netlink."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from types import TracebackType

import structlog

from dnms.events.configuration import InterfaceAddress, Link
from dnms.events.ip import format_address, is_link_local
from dnms.linux import sysctl
from dnms.linux.changes import AddressChanged, LinkChanged, Resync
from dnms.linux.errors import KernelError
from dnms.linux.messages import IFA_F_DADFAILED, IFA_F_TENTATIVE
from dnms.linux.netlink import Netlink

DAD_TIMEOUT = 8.0  # seconds; DAD takes 1 to 2, after up to one more on a link that has just come up

USABLE, DUPLICATE, REMOVED, TIMEOUT = "usable", "duplicate", "removed", "timeout"

ADDR_GEN_MODE = "net/ipv6/conf/{}/addr_gen_mode"
ADDR_GEN_MODE_NONE = "1"
DISABLE_IPV6 = "net/ipv6/conf/{}/disable_ipv6"
LOOPBACK = 1  # index of the loopback interface in every network namespace, whatever its name (LOOPBACK_IFINDEX)

log = structlog.get_logger(__name__)


class DadWatch:
    """Hears what becomes of addresses on one interface. Make it before they are added: a duplicate may be gone at once.

    with DadWatch(netlink, interface) as watch:
        await netlink.add_address(...)
        outcomes = await watch.outcomes([address])
    """

    def __init__(self, netlink: Netlink, interface: int) -> None:
        self._netlink = netlink
        self._interface = interface
        self._changes = netlink.changes()

    def __enter__(self) -> DadWatch:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._changes.close()

    async def outcomes(self, addresses: Collection[bytes], *, timeout: float = DAD_TIMEOUT) -> dict[bytes, str]:
        """Wait until all are decided: `usable`, `duplicate`, `removed` by another, or `timeout` (seconds)."""
        outcomes: dict[bytes, str] = {}
        open_ = set(addresses)

        def judge(held: InterfaceAddress, *, gone: bool = False) -> None:
            outcome = _outcome(held, gone=gone)
            if held.address in open_ and outcome is not None:
                open_.discard(held.address)
                outcomes[held.address] = outcome

        try:
            async with asyncio.timeout(timeout):
                for held in await self._netlink.addresses(self._interface):
                    judge(held)
                while open_:
                    change = await anext(self._changes)
                    if isinstance(change, AddressChanged) and change.address.interface == self._interface:
                        judge(change.address, gone=change.gone)
                    elif isinstance(change, Resync):
                        now = await self._netlink.addresses(self._interface)
                        for held in now:
                            judge(held)
                        for address in open_ - {held.address for held in now}:
                            open_.discard(address)
                            outcomes[address] = REMOVED  # and whether as a duplicate, nobody can tell any more
        except TimeoutError:
            outcomes.update(dict.fromkeys(open_, TIMEOUT))
        return outcomes


def _outcome(held: InterfaceAddress, *, gone: bool) -> str | None:
    """What an address's flags say; None: DAD goes on.

    A permanent duplicate stays, marked as failed; one with lifetimes is deleted, and only that notification is marked.
    """
    if held.flags & IFA_F_DADFAILED:
        return DUPLICATE
    if gone:
        return REMOVED
    return None if held.flags & IFA_F_TENTATIVE else USABLE


async def link_local_ready(netlink: Netlink, interface: str, *, timeout: float | None = None) -> bytes:
    """Wait until the interface has a link-local address that can be used, and return it.

    Where there is none though the link is up (a flush took it, or another program set addr_gen_mode), the kernel is
    made to form it again. What else it waits for is logged once. KernelError `no-interface`, `loopback`, or `timeout`
    after so many seconds (None: waits for ever).
    """
    link = await netlink.link(interface)
    if link.index == LOOPBACK:
        raise KernelError("loopback", f"{interface} leads to this machine alone: name an interface that is on a link")
    formed = False
    told = ""
    try:
        async with asyncio.timeout(timeout):
            with netlink.changes() as changes:
                while True:
                    held = [each for each in await netlink.addresses(link.index) if is_link_local(each.address)]
                    ready = [each for each in held if _outcome(each, gone=False) == USABLE]
                    if ready:
                        return ready[0].address
                    link = await netlink.link(interface)
                    if not held and link.up and link.carrier and not formed:
                        form_link_local(interface)
                        formed = True
                        continue
                    lacks = _lacks(link, held)
                    if lacks not in ("", told):
                        log.warning("waiting for a link-local address", interface=interface, because=lacks)
                    told = lacks or told
                    async for change in changes:
                        match change:
                            case AddressChanged(address=address) if address.interface == link.index:
                                break
                            case LinkChanged(link=changed) if changed.index == link.index:
                                formed = False
                                break
                            case Resync():
                                break
    except TimeoutError:
        raise KernelError("timeout", f"{interface} has no usable link-local address after {timeout} s") from None


def _lacks(link: Link, held: Sequence[InterfaceAddress]) -> str:
    """What keeps an interface from having a link-local address, and what to do; empty where it only takes a moment."""
    if not link.up:
        return f"it is down: `ip link set dev {link.name} up`"
    if not link.carrier:
        return "it has no carrier: look at the cable, or at what is at its other end"
    if sysctl.read(DISABLE_IPV6.format(link.name)) == "1":
        return f"IPv6 is off there: `sysctl -w {DISABLE_IPV6.format(link.name).replace('/', '.')}=0`"
    if held and all(each.flags & IFA_F_DADFAILED for each in held):
        return f"another machine has {format_address(held[0].address)} too: give one of them another hardware address"
    return ""


def form_link_local(interface: str) -> None:
    """Make the kernel form the link-local address anew: it does so when the mode changes to one that forms it."""
    name = ADDR_GEN_MODE.format(interface)
    mode = sysctl.read(name)
    if mode != ADDR_GEN_MODE_NONE:
        sysctl.write(name, ADDR_GEN_MODE_NONE)
    sysctl.write(name, mode if mode != ADDR_GEN_MODE_NONE else "0")
