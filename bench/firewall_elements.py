"""Elements of the firewall's sets, for `bench.subscribers`. Beside the subscriber stands a bare `nft -f` of the same
elements.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import msgspec

from bench.subscribed import SITE, Kept, main, run
from dnms.events.address import AddressAllocated
from dnms.events.ip import format_address
from dnms.events.plan import Group, GroupDefined, SiteDefined
from dnms.subscribers import firewall
from dnms.subscribers.firewall.items import MARK, TABLE, Item, Member, group_set
from dnms.subscribers.firewall.planning import Found
from dnms.subscribers.subscriber import Local

GROUP = Group(name="sales", number=0x5A1E)
SET = group_set(GROUP.name, 6)


def address(number: int) -> bytes:
    """Of the lease with this number."""
    return (0x2001_0DB8_0001_0001_5A1E << 48 | number + 1).to_bytes(16)


def event(number: int) -> AddressAllocated:
    """A lease that says its group, of a client that is not known otherwise."""
    return AddressAllocated(
        address=address(number),
        client=number.to_bytes(16),
        iaid=1,
        pool="six",
        group=GROUP.number,
        valid_until=1 << 60,
        horizon=1 << 60,
    )


def clear() -> None:
    """No table of ours."""
    run("nft", "delete", "table", "inet", TABLE)


def count() -> int:
    """By nft."""
    _, listed = run("nft", "-j", "list", "set", "inet", TABLE, SET.name)
    return sum(len(entry["set"].get("elem", ())) for entry in msgspec.json.decode(listed)["nftables"] if "set" in entry)


def make_room() -> None:
    """An empty set."""
    made = f'add set inet {TABLE} {SET.name} {{ type ipv6_addr; comment "{MARK}"; }}'
    run("nft", "-f", "-", given=f"add table inet {TABLE}\n{made}\n")


async def bare(numbers: Sequence[int]) -> float:
    """One command of nft. RuntimeError."""
    elements = ", ".join(format_address(address(number)) for number in numbers)
    took, _ = run("nft", "-f", "-", given=f"add element inet {TABLE} {SET.name} {{ {elements} }}\n")
    return took


KEPT: Kept[Item, Found] = Kept(
    subscriber=firewall.SUBSCRIBER,
    local=Local(site=SITE),
    plan=[SiteDefined(name=SITE, level=1), GroupDefined(group=GROUP)],
    event=event,
    item=lambda number: Member(SET, address(number)),
    prepare=lambda: None,
    clear=clear,
    count=count,
    make_room=make_room,
    bare=bare,
)


if __name__ == "__main__":
    sys.exit(main(KEPT))
