"""What a configured node looks like in its kernel, and which addresses are held twice."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

from dnms.events.address import (
    AddressAllocated,
    AddressDeclined,
    AddressExpired,
    AddressReleased,
    AddressWithdrawn,
)
from dnms.events.commit import Stored
from dnms.events.ip import family, format_address
from dnms.lab.kernel import OURS, Kernel
from dnms.lab.network import Addressing

_ENDS = AddressDeclined | AddressExpired | AddressReleased | AddressWithdrawn


def missing(kernel: Kernel, addressing: Addressing) -> Iterator[str]:
    """What keeps a node from being configured: nothing, or a text each for people."""
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


def held_twice(kernels: Iterable[Kernel]) -> set[bytes]:
    """Addresses that two machines of the link have, link-local ones too."""
    holders = Counter(
        address for kernel in kernels for address in {held.address for held in kernel.addresses if not held.is_loopback}
    )
    return {address for address, count in holders.items() if count > 1}


def promised_twice(log: Iterable[Stored]) -> set[bytes]:
    """Addresses that the log gave to one client while another had them. Folded here, without the domain's ledger."""
    holders: dict[bytes, tuple[bytes, int]] = {}
    twice: set[bytes] = set()
    for stored in log:
        for event in stored.commit.events:
            if isinstance(event, AddressAllocated):
                holder = (event.client, event.iaid)
                if holders.setdefault(event.address, holder) != holder:
                    twice.add(event.address)
            elif isinstance(event, _ENDS):
                holders.pop(event.address, None)
    return twice
