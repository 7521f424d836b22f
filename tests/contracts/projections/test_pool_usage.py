"""All about one pool, as the views say it."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from dnms.events.address import AddressAllocated, AddressDeclined, AddressHeld, AddressReleased
from dnms.events.ip import parse_address, parse_prefix
from dnms.events.plan import Pool, PoolDefined, PoolWithdrawn, Stateless, Subnet, SubnetDefined
from dnms.projections.example import SITE, Happened, happened
from dnms.projections.pools.usage import PoolUsage, usage
from dnms.projections.runner import rebuild
from dnms.projections.text import microseconds
from dnms.projections.views import Views
from tests.contracts.projections.logs import memory_log, write

SECOND = 1_000_000
DAY = 86_400 * SECOND
LAN = SubnetDefined(
    subnet=Subnet(
        name="lan",
        realm="default",
        prefixes=(parse_prefix("2001:db8::/64"), parse_prefix("192.0.2.0/28"), parse_prefix("2001:db8:1::/48")),
        gateways=(parse_address("192.0.2.1"),),
    )
)


def pool(name: str, first: str, last: str, *, strategy: str = "hash", prefix_per_host: bool = False) -> PoolDefined:
    return PoolDefined(
        pool=Pool(
            name=name,
            subnet="lan",
            first=parse_address(first),
            last=parse_address(last),
            strategy=strategy,
            prefix_per_host=prefix_per_host,
        )
    )


POOLS = (
    LAN,
    pool("four", "192.0.2.0", "192.0.2.15", strategy="sequential"),
    pool("six", "2001:db8::", "2001:db8::ffff:ffff:ffff:ffff"),
    pool("own", "2001:db8:1::", "2001:db8:1:ffff:ffff:ffff:ffff:ffff", prefix_per_host=True),
)


def allocated(address: str, client: int, pool_: str) -> AddressAllocated:
    packed = parse_address(address)
    return AddressAllocated(
        address=packed, client=client.to_bytes(16), iaid=1, pool=pool_, valid_until=1, horizon=10 * DAY
    )


async def used(path: Path, views: Views, name: str, *log: Happened) -> PoolUsage:
    memory = memory_log()
    await write(memory, happened("plan", 0, *POOLS), *log)
    await rebuild(memory, path, site=SITE)
    async with views.read() as reading:
        [found] = await usage(reading, name)
        assert await usage(reading, "nowhere") == []
    return found


async def test_an_ipv4_pool_with_its_rate_and_its_end(path: Path, views: Views) -> None:
    rest, gone, kept, both = map(parse_address, ("192.0.2.5", "192.0.2.6", "192.0.2.9", "192.0.2.2"))
    client = bytes(16)
    found = await used(
        path,
        views,
        "four",
        happened("ledger.lan", 1, allocated("192.0.2.2", 1, "four"), allocated("192.0.2.5", 0, "four")),
        happened(
            "ledger.lan",
            2 * DAY,
            allocated("192.0.2.3", 2, "four"),
            allocated("192.0.2.4", 2, "four"),
            allocated("192.0.2.6", 0, "four"),
            AddressDeclined(address=rest, client=client, iaid=1, quarantined_until=4 * DAY),
            AddressReleased(address=gone, client=client, iaid=1),
            AddressHeld(address=kept, client=client, iaid=1),
            AddressHeld(address=both, client=(1).to_bytes(16), iaid=1),
        ),
    )
    assert (found.range, found.size) == ("192.0.2.0/28", 13)  # without both ends and the gateway
    assert (found.held, found.nodes, found.resting, found.reserved, found.free) == (3, 2, 1, 1, 8)
    assert (found.given_last_day, found.ended_last_day) == (3, 2)
    assert found.exhausted is not None
    assert microseconds(found.exhausted) == (2 + 8) * DAY  # one more a day
    assert found.collisions is None  # nothing is hashed


async def test_a_gateway_of_a_group_is_not_to_be_given(path: Path, views: Views) -> None:
    of_group = Stateless(gateways=(parse_address("192.0.2.9"), parse_address("fe80::1")))
    subnet = msgspec.structs.replace(LAN.subnet, groups={"voip": of_group, "sales": Stateless(mtu=1400)})
    found = await used(path, views, "four", happened("plan", 2, SubnetDefined(subnet=subnet)))
    assert (found.size, found.free) == (12, 12)


async def test_what_does_not_grow_has_no_end(path: Path, views: Views) -> None:
    found = await used(path, views, "four", happened("ledger.lan", 1, allocated("192.0.2.2", 1, "four")))
    assert found.exhausted is not None
    later = happened("ledger.lan", 3 * DAY, AddressReleased(address=bytes(16), client=bytes(16), iaid=1))
    found = await used(path, views, "four", happened("ledger.lan", 1, allocated("192.0.2.2", 1, "four")), later)
    assert (found.given_last_day, found.exhausted) == (0, None)


async def test_in_a_64_those_of_a_group_meet_each_other_alone(path: Path, views: Views) -> None:
    leases = [allocated(f"2001:db8::{n:x}", n, "six") for n in range(1, 5)]
    voip = [allocated(f"2001:db8::5a1e:0:0:{n:x}", n, "six") for n in range(1, 3)]
    found = await used(path, views, "six", happened("ledger.lan", 1, *leases, *voip))
    assert (found.held, found.nodes, found.size, found.exhausted) == (6, 4, 1 << 64, None)
    assert found.collisions is not None
    assert found.collisions.space == 1 << 48
    assert found.collisions.next == 4 / (1 << 48)
    assert found.collisions.expected == (4 * 3 + 2 * 1) / 2 / (1 << 48)
    assert found.collisions.any == pytest.approx(found.collisions.expected)


async def test_where_every_host_has_a_64_these_are_counted(path: Path, views: Views) -> None:
    leases = [allocated(f"2001:db8:1:{n // 2:x}::{n:x}", n // 2, "own") for n in range(2, 8)]
    found = await used(path, views, "own", happened("ledger.lan", 1, *leases))
    assert (found.size, found.held, found.nodes, found.free) == (1 << 16, 6, 3, (1 << 16) - 3)
    assert found.collisions is not None
    assert (found.collisions.space, found.collisions.next) == (1 << 16, 3 / (1 << 16))


async def test_a_withdrawn_pool_is_there_as_long_as_leases_of_it(path: Path, views: Views) -> None:
    found = await used(
        path,
        views,
        "four",
        happened("ledger.lan", 1, allocated("192.0.2.2", 1, "four")),
        happened("plan", 2, PoolWithdrawn(name="four")),
    )
    assert (found.pool, found.held) == ("four", 1)
