from __future__ import annotations

import math

import msgspec
import pytest

from dnms.agents.node.application import held_now
from dnms.domain.drift import drift
from dnms.domain.node_plan import METRIC, PROTOCOL, RA
from dnms.events.configuration import (
    AssignedAddress,
    Assignment,
    Generation,
    InterfaceAddress,
    Link,
    Resolver,
    Route,
    Snapshot,
)
from dnms.events.ip import parse_address, parse_prefix
from dnms.wire.messages import FOREVER, Assign
from dnms.wire.node_state import NodeState

SIX, FOUR = parse_address("2001:db8::a"), parse_address("192.0.2.10")
RESOLVER = Resolver(servers=(parse_address("2001:db8::53"),))
WANTED = Assignment(
    generation=Generation(0, 1, 2),
    addresses=(
        AssignedAddress(address=SIX, prefix_length=64, iaid=1, preferred=2_700, valid=3_600),
        AssignedAddress(address=FOUR, prefix_length=120, iaid=1, preferred=FOREVER, valid=FOREVER),
    ),
    gateways=(parse_address("fe80::1"), parse_address("192.0.2.1")),
    resolver=RESOLVER,
)


def route(destination: str, gateway: str | None = None, *, protocol: int = PROTOCOL) -> Route:
    return Route(
        destination=parse_prefix(destination),
        interface=2,
        gateway=None if gateway is None else parse_address(gateway),
        metric=METRIC,
        protocol=protocol,
    )


def address(held: bytes, length: int, origin: str = "managed") -> InterfaceAddress:
    return InterfaceAddress(interface=2, address=held, prefix_length=length, origin=origin)


WHOLE = Snapshot(
    links=(Link(index=2, name="eth0"),),
    addresses=(address(parse_address("fe80::5"), 64, "link-local"), address(SIX, 64), address(FOUR, 120)),
    routes=(
        route("2001:db8::/64"),
        route("192.0.2.0/24"),
        route("::/0", "fe80::1"),
        route("0.0.0.0/0", "192.0.2.1"),
    ),
    resolver=RESOLVER,
)


def test_a_link_that_has_all_lacks_nothing() -> None:
    assert not drift(WHOLE, 2, WANTED)


@pytest.mark.parametrize("place", [1, 2])
def test_a_lost_address_is_lacking(place: int) -> None:
    left = WHOLE.addresses[:place] + WHOLE.addresses[place + 1 :]
    assert drift(msgspec.structs.replace(WHOLE, addresses=left), 2, WANTED)


@pytest.mark.parametrize("place", range(4))
def test_a_lost_route_is_lacking(place: int) -> None:
    left = WHOLE.routes[:place] + WHOLE.routes[place + 1 :]
    assert drift(msgspec.structs.replace(WHOLE, routes=left), 2, WANTED)


def test_other_servers_are_lacking() -> None:
    assert drift(msgspec.structs.replace(WHOLE, resolver=Resolver()), 2, WANTED)


@pytest.mark.parametrize("origin", ["slaac", "temporary"])
def test_autoconfiguration_that_is_back_is_lacking(origin: str) -> None:
    more = (*WHOLE.addresses, address(parse_address("2001:db8::5"), 64, origin))
    assert drift(msgspec.structs.replace(WHOLE, addresses=more), 2, WANTED)


def test_an_advertised_default_route_is_lacking() -> None:
    more = (*WHOLE.routes, route("::/0", "fe80::2", protocol=RA))
    assert drift(msgspec.structs.replace(WHOLE, routes=more), 2, WANTED)


def test_what_people_add_is_told_and_what_is_drained_is_not() -> None:
    stray = address(parse_address("2001:db8::5"), 64, "other")
    (item,) = drift(msgspec.structs.replace(WHOLE, addresses=(*WHOLE.addresses, stray)), 2, WANTED)
    assert (item.kind, item.name, item.change, item.now) == ("address", "2001:db8::5/64", "added", "other")
    drained = msgspec.structs.replace(stray, preferred=0)
    assert not drift(msgspec.structs.replace(WHOLE, addresses=(*WHOLE.addresses, drained)), 2, WANTED, draining=True)


def state(*usable: bytes) -> NodeState:
    state = NodeState()
    state.take(Assign(assignment=WANTED, renew_after=1_350, rebind_after=2_160), link=("s", "lan"), began=100.0)
    state._hold(usable)
    return state


def test_nothing_is_held_before_something_is_usable() -> None:
    assert held_now(NodeState(), 0.0) is None
    assert held_now(state(), 100.0) is None


def test_what_is_held_has_what_is_left_of_its_lifetimes() -> None:
    wanted = held_now(state(SIX, FOUR), 1_100.0)
    assert wanted is not None
    six, four = wanted.addresses
    assert (six.preferred, six.valid) == (1_700, 2_600)
    assert four == WANTED.addresses[1]
    assert wanted.gateways == WANTED.gateways
    deprecated = held_now(state(SIX), 100.0 + 3_000.0)
    assert deprecated is not None
    assert (deprecated.addresses[0].preferred, deprecated.addresses[0].valid) == (0, 600)


def test_a_duplicate_and_what_is_over_are_not_held() -> None:
    wanted = held_now(state(FOUR), 200.0)
    assert wanted is not None
    assert [each.address for each in wanted.addresses] == [FOUR]
    assert held_now(state(SIX), 100.0 + 3_600.0) is None


def test_an_extended_address_is_not_promised_more_than_its_assignment_says() -> None:
    held = state(SIX)
    held._ends[SIX] = math.inf
    held._prolong()
    wanted = held_now(held, 5_000.0)
    assert wanted is not None
    assert (wanted.addresses[0].preferred, wanted.addresses[0].valid) == (2_700, 3_600)
