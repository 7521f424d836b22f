"""The log's values as text."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dnms.events import codec
from dnms.events.configuration import InterfaceAddress
from dnms.events.ip import format_address, parse_address
from dnms.events.recorded import Personal
from dnms.projections.text import instant, instant_or_none, microseconds, plain, position, to_json
from tests.unit.events.examples import full


@pytest.mark.parametrize("event", codec.EVENTS, ids=lambda kind: kind.NAME)
def test_every_event_is_text_with_addresses_as_people_write_them(event: type[Any]) -> None:
    example = full(event)
    shown = msgspec.json.decode(to_json(example))
    assert shown.keys() == {field.name for field in msgspec.structs.fields(event)}
    if "client" in shown:
        assert shown["client"] == example.client.hex()
    if "address" in shown:
        assert shown["address"] == format_address(example.address)


def test_addresses_inside_of_parts_are_text_too() -> None:
    registered = next(kind for kind in codec.EVENTS if kind.NAME == "configuration.registered")
    snapshot = plain(full(registered))["snapshot"]
    assert ":" in snapshot["addresses"][0]["address"]
    assert all(":" in server for server in snapshot["resolver"]["servers"])
    assert "/" in snapshot["routes"][0]["destination"]
    assert ":" in snapshot["routes"][0]["gateway"]


@pytest.mark.parametrize(
    ("address", "length", "shown"), [("192.0.2.5", 120, 24), ("2001:db8::5", 64, 64), ("192.0.2.5", 7, 0)]
)
def test_a_prefix_length_is_that_of_its_family(address: str, length: int, shown: int) -> None:
    registered = InterfaceAddress(interface=2, address=parse_address(address), prefix_length=length, origin="managed")
    assert plain(registered) == {"interface": 2, "address": address, "prefix_length": shown, "origin": "managed"}


def test_what_is_personal_and_sealed_is_said_to_be() -> None:
    assert plain(Personal("alice")) == "alice"
    assert plain(Personal(b"\x00\x04")) == "00:04"
    assert plain(Personal.from_payload(b"\x01secret")) == "(sealed)"


def test_instants() -> None:
    assert instant(0) == datetime(1970, 1, 1, tzinfo=UTC)
    assert instant(1_700_000_000_123_456).isoformat() == "2023-11-14T22:13:20.123456+00:00"
    assert instant((1 << 63) - 1).year == 9999
    assert instant(-(1 << 63)).year == 1
    assert instant_or_none(None) is None
    assert instant_or_none(0) == instant(0)


def test_a_date_without_a_zone_is_in_utc() -> None:
    assert microseconds(datetime(1970, 1, 1, 0, 0, 1)) == 1_000_000  # that is the point
    assert microseconds(datetime(1970, 1, 1, 2, tzinfo=timezone(timedelta(hours=1)))) == 3_600_000_000


@given(st.integers(-(10**15), 10**17))
def test_an_instant_comes_back(value: int) -> None:
    assert microseconds(instant(value)) == value


def test_positions() -> None:
    assert position(12, 3) == "12.3"
