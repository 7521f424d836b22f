"""Routes of delegations, for `bench.subscribers`. Beside the subscriber stand a bare netlink batch of the same routes,
as `dnms.linux.routes` sends it, and `ip -6 -batch` of iproute2.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import msgspec

from bench.sides import Stopwatch
from bench.subscribed import SITE, SUBNET, Kept, main, run
from dnms.domain.routes import Route, delegated
from dnms.events.ip import Prefix
from dnms.events.plan import SiteDefined
from dnms.events.prefix import PrefixDelegated
from dnms.linux.routes import PROTOCOL, RouteTable
from dnms.subscribers import routes
from dnms.subscribers.routes.kernel import Routes
from dnms.subscribers.subscriber import Local

INTERFACE, OTHER_END = "bench0", "bench1"


def prefix(number: int) -> Prefix:
    """Of the delegation with this number."""
    return Prefix((0x2001_0DB8_0000_0000 + number << 64).to_bytes(16), 64)


def next_hop(number: int) -> bytes:
    """Of its delegate: each has an address of its own on the link."""
    return ((0xFE80 << 112) + number + 1).to_bytes(16)


def event(number: int) -> PrefixDelegated:
    """A client gets a prefix."""
    return PrefixDelegated(
        prefix=prefix(number),
        client=number.to_bytes(16),
        iaid=1,
        delegation="to-laptops",
        next_hop=next_hop(number),
        valid_until=1 << 60,
        horizon=1 << 60,
    )


def item(number: int) -> Route:
    """The route to it."""
    return delegated(prefix(number), next_hop(number), INTERFACE)


def prepare() -> None:
    """The link with the delegates."""
    run("ip", "link", "add", INTERFACE, "type", "veth", "peer", "name", OTHER_END)
    for interface in (INTERFACE, OTHER_END):
        run("ip", "link", "set", interface, "up")


def clear() -> None:
    """No route of ours."""
    run("ip", "-6", "route", "flush", "proto", str(PROTOCOL))


def count() -> int:
    """By iproute2."""
    _, listed = run("ip", "-6", "-json", "route", "show", "proto", str(PROTOCOL))
    return len(msgspec.json.decode(listed or b"[]"))


async def bare(numbers: Sequence[int]) -> float:
    """Without log and subscriber. RuntimeError."""
    wanted, watch = [item(number) for number in numbers], Stopwatch()
    with RouteTable() as table:
        refused = await table.change(add=wanted)
    took = watch.seconds()
    if refused:
        raise RuntimeError(f"{len(refused)} routes were refused: {next(iter(refused.values()))}")
    return took


def peer(numbers: Sequence[int]) -> float:
    """By iproute2."""
    lines = "".join(f"route add {item(number)} proto {PROTOCOL}\n" for number in numbers)
    took, _ = run("ip", "-6", "-batch", "-", given=lines)
    return took


KEPT: Kept[Route, Routes] = Kept(
    subscriber=routes.SUBSCRIBER,
    local=Local(site=SITE, interfaces={SUBNET: INTERFACE}),
    plan=[SiteDefined(name=SITE, level=1)],
    event=event,
    item=item,
    prepare=prepare,
    clear=clear,
    count=count,
    make_room=lambda: None,
    bare=bare,
    peer=peer,
)


if __name__ == "__main__":
    sys.exit(main(KEPT))
