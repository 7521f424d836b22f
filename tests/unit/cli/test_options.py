from __future__ import annotations

import pytest

from dnms.cli.options import Endpoint, parse_address_or_prefix, parse_address_text, parse_endpoint


@pytest.mark.parametrize(
    ("text", "address"),
    [("192.0.2.7", "192.0.2.7"), ("192.0.2.7/24", "192.0.2.7"), ("2001:DB8:0::1/64", "2001:db8::1")],
)
def test_an_address_with_or_without_a_prefix_length(text: str, address: str) -> None:
    assert parse_address_text(text) == address


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("192.0.2.0/24", "192.0.2.0/24"),
        ("2001:DB8:0::/64", "2001:db8::/64"),
        ("192.0.2.7/24", "192.0.2.7"),  # as a kernel shows an address
    ],
)
def test_an_address_or_a_prefix(text: str, meant: str) -> None:
    assert parse_address_or_prefix(text) == meant


@pytest.mark.parametrize("text", ["", "192.0.2.7/", "192.0.2.7/x", "192.0.2.0/24/7", "/24", "alpha"])
def test_no_address(text: str) -> None:
    with pytest.raises(ValueError, match="does not appear to be an IPv4 or IPv6 address"):
        parse_address_text(text)


@pytest.mark.parametrize(
    ("text", "host", "port"), [("127.0.0.1:80", "127.0.0.1", 80), ("[::1]:0", "::1", 0), ("host:65535", "host", 65535)]
)
def test_an_endpoint(text: str, host: str, port: int) -> None:
    assert parse_endpoint(text) == Endpoint(host, port)
    assert str(parse_endpoint(text)) == text


@pytest.mark.parametrize(
    "text", ["", "80", ":80", "host", "host:", "host:x", "host:65536", "::1:80", "[::1]", "host:-1"]
)
def test_no_endpoint(text: str) -> None:
    with pytest.raises(ValueError, match="expected HOST:PORT"):
        parse_endpoint(text)
