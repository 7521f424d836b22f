"""Pseudonyms: one for each, prefixes kept, and nothing of what they stand for left in the bytes."""

from __future__ import annotations

import ipaddress
import random
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from dnms.archive.pseudonyms import KEY_BYTES, Pseudonyms
from dnms.events import codec
from dnms.events.commit import Commit, Decision
from dnms.events.effect import EffectApplied, EffectDead, EffectDelayed, EffectFailed
from dnms.events.ip import Prefix, format_address, parse_address, parse_prefix
from dnms.events.plan import Boot, Dhcp, Downlink, Pool, RawOption, Subnet, SubnetDefined
from dnms.events.prefix import PrefixDelegated
from dnms.events.recorded import Event, Personal, Recorded
from dnms.events.requests import REQUESTS
from dnms.events.uplink import Source, UplinkReceived
from tests.unit.events.examples import full

KEY, OTHER = b"k" * KEY_BYTES, b"o" * KEY_BYTES


def shared(one: bytes, other: bytes) -> int:
    """How many bits two addresses begin with alike."""
    return 128 - (int.from_bytes(one) ^ int.from_bytes(other)).bit_length()


def addresses() -> list[bytes]:
    chance = random.Random(5)
    networks = ["2001:db8:1::/48", "2001:db8:1:1::/64", "fd00:1::/32", "fe80::/64", "192.0.2.0/24", "10.0.0.0/8"]
    found = []
    for network in map(ipaddress.ip_network, networks):
        found += [parse_address(str(network[chance.randrange(network.num_addresses)])) for _ in range(20)]
    return found + [parse_address(each) for each in ("64:ff9b::c000:201", "64:ff9b::c000:202", "ff02::1", "::2:3")]


def test_addresses_that_share_a_prefix_share_as_much_of_one_afterwards() -> None:
    pseudonyms, known = Pseudonyms(KEY), addresses()
    for one in known:
        for other in known:
            assert shared(pseudonyms.address(one), pseudonyms.address(other)) == shared(one, other)
    assert sum(pseudonyms.address(one) == one for one in known) <= 1
    assert [Pseudonyms(OTHER).address(one) for one in known] != [pseudonyms.address(one) for one in known]


@pytest.mark.parametrize("text", ["::1", "::", "fe80::", "192.0.2.7", "fd00::1", "ff02::1"])
def test_of_what_kind_an_address_is_stays(text: str) -> None:
    was = ipaddress.ip_address(text)
    now = ipaddress.ip_address(format_address(Pseudonyms(KEY).address(parse_address(text))))
    assert was.version == now.version
    assert (was.is_link_local, was.is_multicast) == (now.is_link_local, now.is_multicast) or was.version == 4
    if text in ("::1", "::"):
        assert now == was


def test_a_subnet_stays_one_and_its_addresses_in_it() -> None:
    pseudonyms = Pseudonyms(KEY)
    subnet = parse_prefix("2001:db8:1:1::/64")
    changed = pseudonyms.prefix(subnet)
    assert changed.length == 64
    assert changed != subnet
    assert pseudonyms.address(parse_address("2001:db8:1:1::5")) in changed
    assert pseudonyms.address(parse_address("2001:db8:1:2::5")) not in changed
    assert pseudonyms.prefix(parse_prefix("0.0.0.0/0")) == parse_prefix("0.0.0.0/0")
    assert pseudonyms.prefix(parse_prefix("::/0")) == parse_prefix("::/0")


@pytest.mark.parametrize(
    "given",
    [("192.0.2.16", "192.0.2.31"), ("192.0.2.20", "192.0.2.40"), ("2001:db8::", "2001:db8::ffff:ffff:ffff:ffff")],
)
def test_a_pool_has_the_addresses_that_it_had(given: tuple[str, str]) -> None:
    first, last = map(parse_address, given)
    pseudonyms = Pseudonyms(KEY)
    pool = pseudonyms._of(Pool)(Pool(name="p", subnet="s", first=first, last=last))
    assert pool.first <= pool.last
    for address in (first, last, (int.from_bytes(first) + 5).to_bytes(16)):
        assert pool.first <= pseudonyms.address(address) <= pool.last


def secrets_in(value: Any) -> Iterator[bytes]:
    """All that must not be left, of an example: what `full` makes of personal values, addresses and client ids."""
    match value:
        case Personal(value=inner):
            yield inner.encode() if isinstance(inner, str) else inner or b""
        case Prefix():
            pass  # of one the host bits may be all that there is
        case bytes() if len(value) >= 16:
            yield value
        case msgspec.Struct():
            for name in value.__struct_fields__:
                yield from secrets_in(getattr(value, name))
        case tuple() | list():
            for each in value:
                yield from secrets_in(each)
        case dict():
            for each in value.values():
                yield from secrets_in(each)
        case _:
            pass


@pytest.mark.parametrize("kind", [*codec.EVENTS, *REQUESTS], ids=lambda kind: kind.NAME)
def test_nothing_of_an_example_is_left_in_its_bytes(kind: type[Recorded]) -> None:
    """Of every event and request that there is: one that is added is looked at too."""
    example = full(kind)
    commit = Commit(
        id=bytes(range(16)),
        time=7,
        predecessor=3,
        actor="operator/anna",
        decisions=()
        if isinstance(example, Event)
        else (Decision(request=example, at=7, entropy=b"chance 0123456789"),),
        events=(example,) if isinstance(example, Event) else (),
        signature=bytes(range(64)),
    )
    data = codec.encode(Pseudonyms(KEY).commit(commit))
    found = codec.decode(data)
    assert (found.time, found.predecessor) == (7, 3)
    assert [type(each) for each in found.events] == [type(each) for each in commit.events]
    assert [type(each.request) for each in found.decisions] == [type(each.request) for each in commit.decisions]
    assert found.actor.startswith("operator/")
    for left in (b"anna", b"chance", bytes(range(16)), *secrets_in(example)):
        assert left not in data


def test_a_machine_is_the_same_one_everywhere_and_another_with_another_key() -> None:
    one, other = Pseudonyms(KEY), Pseudonyms(OTHER)
    client = bytes(range(16))
    assert one.client(client) == one.client(client) != other.client(client)
    assert one.client(client)[:1] == client[:1]
    assert one.personal(Personal("phone-1")) == one.personal(Personal("phone-1")) != one.personal(Personal("phone-2"))
    hardware = one.personal(Personal(bytes.fromhex("00005e005301"))).value
    assert isinstance(hardware, bytes)
    assert (len(hardware), hardware[0]) == (6, 2)
    assert (
        one.subject("dnms.here.seen.lan.east").rpartition(".")[2]
        == one.commit(Commit(id=bytes(16), time=0, predecessor=0, actor="agent/east")).actor.rpartition("/")[2]
    )
    assert one.subject("dnms.here.ledger.lan") == "dnms.here.ledger.lan"


PREFIX, HOP = parse_prefix("2001:db8:7::/56"), parse_address("fe80::7")
SAID: list[Event] = [
    UplinkReceived(uplink="wan", prefix=PREFIX, preferred_until=1, valid_until=2, source=Source(name="dhcpv6 anna")),
    PrefixDelegated(
        prefix=PREFIX,
        client=bytes(16),
        iaid=1,
        delegation="blocks",
        next_hop=HOP,
        interface="anna",
        valid_until=1,
        horizon=1,
    ),
    SubnetDefined(subnet=Subnet(name="lan", realm="default", prefixes=(PREFIX,), downlink=Downlink(routers=("anna",)))),
    EffectApplied(position=1, added=("2001:db8::/64 dev anna",), dropped=("anna",)),
    EffectFailed(position=1, why="denied", text="anna"),
    EffectDelayed(sequence=1, kind="node.arrived", why="exit", text="anna"),
    EffectDead(sequence=1, kind="node.arrived", why="exit", text="anna", attempts=2),
]


@pytest.mark.parametrize("event", SAID, ids=lambda event: event.NAME)
def test_no_text_that_names_a_machine_is_left(event: Event) -> None:
    commit = Commit(id=bytes(16), time=7, predecessor=3, actor="operator/bob", decisions=(), events=(event,))
    [found] = codec.decode(data := codec.encode(Pseudonyms(KEY).commit(commit))).events
    assert type(found) is type(event)
    assert b"anna" not in data


def test_instances_of_subscribers_are_named_as_machines_are() -> None:
    subject = Pseudonyms(KEY).subject("dnms.s.effect.routes.anna.asked")
    assert subject.startswith("dnms.s.effect.routes.instance-")
    assert subject.endswith(".asked")
    [router] = Pseudonyms(KEY).value(Downlink(routers=("anna",))).routers
    assert subject == f"dnms.s.effect.routes.{router}.asked"


def test_what_is_booted_is_left_out() -> None:
    boot = Boot(file="http://boot.example/x", url="http://boot.example/x")
    told = Dhcp(ipv6_only=300, boot=(boot,), options=(RawOption(family=4, code=43, value=bytes.fromhex("c0000209")),))
    subnet = Subnet(name="a", realm="default", prefixes=(), downlink=Downlink(dhcp=told))
    commit = Commit(id=bytes(16), time=0, predecessor=0, actor="a", events=(SubnetDefined(subnet=subnet),))
    (event,) = Pseudonyms(KEY).commit(commit).events
    assert isinstance(event, SubnetDefined)
    assert event.subnet.downlink.dhcp == Dhcp(ipv6_only=300)
