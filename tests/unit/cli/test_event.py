"""Events as people read them."""

from __future__ import annotations

from typing import Any

import pytest

from dnms.cli.event import what
from dnms.events import codec
from dnms.projections.text import plain
from tests.unit.events.examples import full


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        (
            {"address": "192.0.2.117", "client": "aa", "iaid": 7, "pool": "v4", "valid_until": 1_772_368_205_000_000},
            "address 192.0.2.117, pool v4, valid_until 2026-03-01 12:30:05Z",
        ),
        (
            {"generation": {"plan": 3, "ledger": 9}, "items": [{"address": "192.0.2.117", "outcome": "usable"}]},
            "generation plan 3 ledger 9, items (192.0.2.117 usable)",
        ),
        (
            {"digest": "ab" * 32, "snapshot": {"addresses": [{"origin": "managed"}, {"origin": "slaac"}], "links": []}},
            "snapshot of 1 managed 1 slaac",
        ),
        ({"pool": {"name": "lan-v4", "subnet": "lan"}}, "pool lan-v4"),
        ({"plan": {"position": 4, "subnet": {"name": "lan"}}}, "plan of position 4"),
        ({"hardware": ["02:00", "02:01"], "name": "alice\x1b"}, "hardware 02:00 02:01, name alice\\x1b"),
        ({}, ""),
    ],
)
def test_fields_are_told_in_words(fields: dict[str, Any], text: str) -> None:
    assert what(fields) == text


@pytest.mark.parametrize("event", codec.EVENTS, ids=lambda kind: kind.NAME)
def test_every_event_is_told_in_a_line(event: type[Any]) -> None:
    told = what(plain(full(event)))
    assert told.isprintable()
    assert "{" not in told
