"""Addresses and prefixes of both families in 16 bytes, against `ipaddress`."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dnms.events import ip

ANY = st.ip_addresses()


def network(address: ipaddress.IPv4Address | ipaddress.IPv6Address, bits: int) -> str:
    return str(ipaddress.ip_network((address, bits), strict=False))


def prefixes() -> st.SearchStrategy[str]:
    four = st.builds(network, st.ip_addresses(v=4), st.integers(0, 32))
    six = st.builds(network, st.ip_addresses(v=6), st.integers(0, 128))
    return four | six


def is_mapped(text: str) -> bool:
    return ipaddress.ip_network(text).network_address in ipaddress.ip_network("::ffff:0:0/96")


@given(ANY)
def test_an_address_comes_back(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
    packed = ip.parse_address(str(address))
    assert len(packed) == 16
    assert ip.family(packed) == 4 if address.version == 4 else 6
    assert ipaddress.ip_address(ip.format_address(packed)) == (getattr(address, "ipv4_mapped", None) or address)


@given(prefixes())
def test_a_prefix_comes_back(text: str) -> None:
    prefix = ip.parse_prefix(text)
    if ":" not in text or not is_mapped(text):
        assert str(prefix) == text
        assert prefix.family == ipaddress.ip_network(text).version


@given(prefixes(), prefixes())
def test_covering_and_overlapping_are_those_of_the_standard_library(left: str, right: str) -> None:
    ours, theirs = ip.parse_prefix(left), ip.parse_prefix(right)
    a, b = ipaddress.ip_network(left), ipaddress.ip_network(right)
    if a.version == b.version:
        assert ours.overlaps(theirs) == a.overlaps(b)
        assert ours.covers(theirs) == b.subnet_of(a)  # type: ignore[arg-type]  # of one version, as was asked above
    assert ours.overlaps(theirs) == theirs.overlaps(ours)


@given(prefixes(), st.integers(0, 1 << 128))
def test_a_prefix_holds_what_lies_between_its_ends(text: str, offset: int) -> None:
    prefix = ip.parse_prefix(text)
    size = prefix.last - prefix.first + 1
    address = (prefix.first + offset % size).to_bytes(16)
    assert address in prefix
    assert ip.prefix_of(address, prefix.length) == prefix
    for outside in (prefix.first - 1, prefix.last + 1):
        if 0 <= outside < 1 << 128:
            assert outside.to_bytes(16) not in prefix


@pytest.mark.parametrize("text", ["", "1.2.3", "1.2.3.4/24", "fe80::1%eth0", "2001:db8::/64", "::1::", "host"])
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(ValueError):
        ip.parse_address(text)


@pytest.mark.parametrize("text", ["", "10.0.0.1/8", "2001:db8::1/64", "2001:db8::/129", "10.0.0.0/33", "x/8"])
def test_what_is_no_prefix(text: str) -> None:
    with pytest.raises(ValueError):
        ip.parse_prefix(text)


@given(ANY)
def test_link_local(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
    expected = address.version == 6 and address in ipaddress.ip_network("fe80::/10")
    assert ip.is_link_local(ip.parse_address(str(address))) == expected


def test_the_known_edges_of_link_local() -> None:
    for text, expected in [("fe80::", True), ("febf:ffff::1", True), ("fec0::", False), ("fe7f::", False)]:
        assert ip.is_link_local(ip.parse_address(text)) == expected
