"""What a configured node looks like in its kernel, and which addresses two machines hold."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

from dnms.events.ip import family, format_address
from dnms.lab.kernel import OURS, Kernel
from dnms.lab.network import Addressing
from dnms.projections.naive import Naive

Lease = tuple[str, str]
"""Client in hex, and address."""


def missing(kernel: Kernel, addressing: Addressing) -> Iterator[str]:
    """What keeps a node's kernel from being configured: nothing, or a text each for people."""
    gateways = {6: addressing.gateway6, 4: addressing.gateway4}
    present = [held for held in kernel.addresses if held.is_global]
    for version, gateway in gateways.items():
        ours = [held for held in present if held.protocol == OURS and family(held.address) == version]
        if not ours:
            yield f"no managed IPv{version} address"
        for held in ours:
            if not held.usable:
                yield f"{held} is not usable yet, or is a duplicate"
            if not addressing.in_pool(held.address):
                yield f"{held} is in no pool"
        if not any(route.gateway == gateway and route.protocol == OURS for route in kernel.defaults):
            yield f"no default route of ours over {format_address(gateway)}"
    for held in present:
        if held.protocol != OURS:
            yield f"{held} is there and was not assigned"
    for route in kernel.defaults:
        if route.protocol != OURS:
            yield f"a default route of protocol {route.protocol} is there"


def unresolved(resolv_conf: str, addressing: Addressing) -> Iterator[str]:
    """What keeps a node with this resolv.conf from asking the plan's DNS servers."""
    lines = [line.split() for line in resolv_conf.splitlines()]
    servers = tuple(words[1] for words in lines if words[0:1] == ["nameserver"] and len(words) > 1)
    if servers != addressing.dns:
        yield f"its DNS servers are {', '.join(servers) or 'none'}, and the plan's {', '.join(addressing.dns)}"


def stranded(kernel: Kernel, addressing: Addressing) -> Iterator[str]:
    """What keeps a node, whose addresses may just be changing, from talking to the world as it was told to."""
    for version, gateway in ((6, addressing.gateway6), (4, addressing.gateway4)):
        usable = [held for held in kernel.addresses if held.is_global and held.usable and held.protocol == OURS]
        if not any(family(held.address) == version for held in usable):
            yield f"no usable managed IPv{version} address"
        if not any(route.gateway == gateway and route.protocol == OURS for route in kernel.defaults):
            yield f"no default route of ours over {format_address(gateway)}"
    for held in kernel.addresses:
        if held.is_global and held.protocol != OURS:
            yield f"{held} is there and was not assigned"


def promised(name: str, used: Mapping[bytes, float], log: Naive, stored: Mapping[Lease, float]) -> Iterator[str]:
    """Addresses that a node has used, and since when, that the log has not given to it before; times as of `stored`."""
    clients = {client for client, known in log.names.items() if known == name}
    for address, since in used.items():
        text = format_address(address)
        given = min((stored[client, text] for client in clients if (client, text) in stored), default=None)
        if given is None:
            yield f"it used {text}, which the log has not given to it"
        elif given > since:
            yield f"it used {text} {given - since:.3f} s before that was in the log"


def held_twice(kernels: Iterable[Kernel]) -> set[str]:
    """Addresses that two machines of the link have, link-local ones too."""
    holders = Counter(
        address for kernel in kernels for address in {held.address for held in kernel.addresses if not held.is_loopback}
    )
    return {format_address(address) for address, count in holders.items() if count > 1}
