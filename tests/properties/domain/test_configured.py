"""What changed between two configurations, put upon the first, gives the second: for the log and for who reads it."""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from dnms.domain.configured import NO_DIFFERENCE, changed, difference
from dnms.events.codec import decoder, encoder
from dnms.events.configuration import (
    AdvertisedPrefix,
    Advertisement,
    Difference,
    InterfaceAddress,
    Link,
    Resolver,
    Route,
    Router,
    Snapshot,
)
from dnms.events.ip import parse_address, parse_prefix
from dnms.events.recorded import Personal
from dnms.projections.nodes import configured as shown
from dnms.projections.text import plain

ADDRESSES = st.sampled_from([parse_address(f"2001:db8::{number}") for number in range(4)] + [parse_address("10.0.0.1")])
PREFIXES = st.sampled_from([parse_prefix(text) for text in ("2001:db8::/64", "::/0", "10.0.0.0/8")])
INTERFACES, SECONDS = st.integers(1, 3), st.integers(0, 3)

LINKS = st.builds(
    Link,
    index=INTERFACES,
    name=st.sampled_from(["eth0", "wlan0"]),
    hardware=st.none() | st.sampled_from([Personal(b"\2aaaaa"), Personal(b"\2bbbbb")]),
    mtu=st.sampled_from([0, 1500]),
    up=st.booleans(),
    state=st.sampled_from(["", "up", "down"]),
)
HELD = st.builds(
    InterfaceAddress,
    interface=INTERFACES,
    address=ADDRESSES,
    prefix_length=st.sampled_from([64, 128]),
    origin=st.sampled_from(["slaac", "managed"]),
    flags=st.sampled_from([0, 0x20]),
    preferred=st.none() | SECONDS,
    valid=st.none() | SECONDS,
)
ROUTES = st.builds(
    Route, destination=PREFIXES, interface=INTERFACES, gateway=st.none() | ADDRESSES, metric=st.integers(0, 2)
)
ADVERTISED = st.builds(
    Advertisement,
    interface=INTERFACES,
    router=ADDRESSES,
    lifetime=SECONDS,
    managed=st.booleans(),
    prefixes=st.lists(
        st.builds(AdvertisedPrefix, prefix=PREFIXES, autonomous=st.booleans(), valid=SECONDS), max_size=2
    ).map(tuple),
)
T = TypeVar("T")


def unique(strategy: st.SearchStrategy[T], *key: str) -> st.SearchStrategy[tuple[T, ...]]:
    return st.lists(strategy, max_size=4, unique_by=lambda each: tuple(getattr(each, name) for name in key)).map(tuple)


SNAPSHOTS = st.builds(
    Snapshot,
    links=unique(LINKS, "index"),
    addresses=unique(HELD, "interface", "address", "prefix_length"),
    routes=unique(ROUTES, "destination", "interface", "gateway", "metric"),
    routes_not_listed=st.integers(0, 2),
    resolver=st.builds(Resolver, servers=st.lists(ADDRESSES, max_size=2).map(tuple)),
    sysctls=st.dictionaries(st.sampled_from("abc"), st.sampled_from("01"), max_size=3),
    kernel=st.sampled_from(["6.1", "6.2"]),
    host=st.sampled_from([Personal("one"), Personal("other")]),
    routers=unique(st.builds(Router, interface=INTERFACES, address=ADDRESSES), "interface", "address"),
    advertisements=unique(ADVERTISED, "interface", "router"),
)


def essence(snapshot: Snapshot) -> Any:
    """All of it but lifetimes and the order of things."""

    def lasting(each: Any) -> Any:
        if isinstance(each, InterfaceAddress):
            return msgspec.structs.replace(each, preferred=each.preferred and 0, valid=each.valid and 0)
        if isinstance(each, Advertisement):
            prefixes = tuple(
                msgspec.structs.replace(one, valid=bool(one.valid), preferred=bool(one.preferred))
                for one in each.prefixes
            )
            return msgspec.structs.replace(each, lifetime=bool(each.lifetime), prefixes=prefixes)
        return each

    return {
        name: {repr(lasting(each)) + repr(getattr(each, "hardware", None) and each.hardware.text) for each in value}
        if isinstance(value := getattr(snapshot, name), tuple)
        else getattr(value, "text", value)
        for name in snapshot.__struct_fields__
    }


@given(SNAPSHOTS, SNAPSHOTS)
def test_what_changed_upon_the_first_gives_the_second(before: Snapshot, after: Snapshot) -> None:
    change = difference(before, after)
    assert essence(changed(before, change)) == essence(after)
    assert difference(changed(before, change), after) == NO_DIFFERENCE
    assert (change == NO_DIFFERENCE) == (essence(before) == essence(after))


@given(SNAPSHOTS, SNAPSHOTS)
def test_a_change_is_read_as_it_was_written(before: Snapshot, after: Snapshot) -> None:
    change = difference(before, after)
    assert decoder(Difference).decode(encoder.encode(change)) == change


@given(SNAPSHOTS, SNAPSHOTS)
def test_between_two_moments_each_difference_is_told_once_and_nothing_else(before: Snapshot, after: Snapshot) -> None:
    told = list(shown.differences(plain(before), plain(after)))
    assert bool(told) == (plain_essence(before) != plain_essence(after))
    assert all(each.before != each.after for each in told)
    assert list(shown.differences(plain(after), plain(after))) == []
    back = list(shown.differences(plain(after), plain(before)))
    assert sorted((each.what, repr(each.before), repr(each.after)) for each in told) == sorted(
        (each.what, repr(each.after), repr(each.before)) for each in back
    )


def plain_essence(snapshot: Snapshot) -> Any:
    def lasting(value: Any) -> Any:
        if isinstance(value, dict):
            return {
                name: lasting(each) for name, each in value.items() if name not in ("preferred", "valid", "lifetime")
            }
        return [lasting(each) for each in value] if isinstance(value, list) else value

    return {
        name: sorted(map(repr, value)) if isinstance(value, list) else value
        for name, value in lasting(plain(snapshot)).items()
    }


def test_lifetimes_alone_are_no_change_and_that_one_begins_to_end_is() -> None:
    held = InterfaceAddress(interface=1, address=bytes(16), prefix_length=64, origin="slaac", preferred=90, valid=100)
    before = Snapshot(addresses=(held,))

    def later(**fields: Any) -> Snapshot:
        return Snapshot(addresses=(msgspec.structs.replace(held, **fields),))

    assert difference(before, later(preferred=10, valid=20)) == NO_DIFFERENCE
    assert difference(before, later(preferred=0, flags=0x20)).addresses
    assert difference(before, later(valid=None)).addresses
