from __future__ import annotations

from datetime import UTC, datetime

import pytest

from dnms.cli.options import Endpoint, parse_address_text, parse_endpoint, parse_moment


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-03-01T12:00:00Z", datetime(2026, 3, 1, 12, tzinfo=UTC)),
        ("2026-03-01T12:00:00+02:00", datetime(2026, 3, 1, 10, tzinfo=UTC)),
        ("2026-03-01T12:00:00", datetime(2026, 3, 1, 12, tzinfo=UTC)),
        ("2026-03-01 12:00", datetime(2026, 3, 1, 12, tzinfo=UTC)),
        ("2026-03-01", datetime(2026, 3, 1, tzinfo=UTC)),
        ("1772366400", datetime(2026, 3, 1, 12, tzinfo=UTC)),
        ("1772366400.25", datetime(2026, 3, 1, 12, 0, 0, 250_000, tzinfo=UTC)),
        ("0", datetime(1970, 1, 1, tzinfo=UTC)),
    ],
)
def test_an_instant(text: str, moment: datetime) -> None:
    assert parse_moment(text) == moment


@pytest.mark.parametrize("text", ["", "yesterday", "12:00", "2026-13-01", "1e300", "nan", "inf", "-1e15"])
def test_no_instant(text: str) -> None:
    with pytest.raises(ValueError, match=r"expected ISO 8601|outside of the years"):
        parse_moment(text)


@pytest.mark.parametrize(
    ("text", "address"),
    [("192.0.2.7", "192.0.2.7"), ("192.0.2.7/24", "192.0.2.7"), ("2001:DB8:0::1/64", "2001:db8::1")],
)
def test_an_address_with_or_without_a_prefix_length(text: str, address: str) -> None:
    assert parse_address_text(text) == address


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
