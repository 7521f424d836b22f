"""Conditions: what they say, and that nothing but a comparison can be said."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dnms.projections.replay.condition import MAX_LENGTH, Condition, ConditionError
from dnms.projections.replay.reading import NAMES

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
SCOPE: dict[str, Any] = {
    **dict.fromkeys(NAMES),
    "event": {"name": "address.allocated", "address": "2001:db8::5", "valid_until": NOON},
    "lease": {"address": "2001:db8::5", "client": "0a" * 16, "group": 7, "drained_at": None},
    "binding": {"addresses": ["2001:db8::5", "192.0.2.1"]},
    "before": {"lease": None},
    "sequence": 12,
    "time": NOON,
}


def holds(text: str) -> bool:
    return Condition(text, NAMES).holds(SCOPE.__getitem__)


@pytest.mark.parametrize(
    "text",
    [
        "lease.address == '2001:db8::5'",
        "lease.address == '2001:DB8:0:0::5'",  # however it is written
        "lease.address in '2001:db8::/64' and lease.group == 7",
        "lease.address not in '2001:db8:1::/64'",
        "lease.address in ['192.0.2.1', '2001:DB8::5']",
        "'192.0.2.1' in binding.addresses",
        "lease.group >= 7",
        "5 < lease.group < 8",
        "lease.group != -7",
        "sequence == 12 or lease.group == 1",
        "not before.lease",
        "before.lease is None and lease is not None",
        "before.lease.address == None",
        "lease.client != before.lease.client",
        "pool.name == None",
        "time == '2026-03-01T12:00' and time < '2026-03-01T13:00:00+00:00'",
        "time in ['2026-03-01T12:00Z', '2027-01-01']",
        "'2026-03-01T11:59' < event.valid_until",
        "event.name == 'address.allocated'",
        "'alloc' in event.name",
        " lease ",
    ],
)
def test_what_is_so(text: str) -> None:
    assert holds(text)


@pytest.mark.parametrize(
    "text",
    [
        "lease.address == '2001:db8::6'",
        "lease.address in '192.0.2.0/24'",
        "lease.client in '2001:db8::/64'",  # no address at all
        "lease.drained_at < 5",  # None is neither smaller
        "lease.drained_at > 5",  # nor larger
        "lease.drained_at in '2001:db8::/64'",
        "lease.group == '7'",
        "lease.group < 'x'",
        "before.lease.address in binding.addresses",
        "pool.name in event.name",
        "'x' in sequence",
        "not lease",
        "5 < lease.group < 6",
    ],
)
def test_what_is_not_so(text: str) -> None:
    assert not holds(text)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is no condition"),
        ("lease.address == 2001:db8::5", "stand in quotes"),
        ("lease.address = '::1'", "is no condition"),
        ("lease.adress == '::1'", "lease has no 'adress'; it has address, client, "),
        ("before.lease.adress == '::1'", "lease has no 'adress'"),
        ("before.leese == None", "before has no 'leese'"),
        ("event.adress == '::1'", "event has no 'adress'"),
        ("leese.address == '::1'", "there is no 'leese'; there are actor, "),
        ("__import__('os').system('true')", "cannot stand in a condition"),
        ("lease.address.upper() == 'X'", "cannot stand in a condition"),
        ("[x for x in binding.addresses]", "cannot stand in a condition"),
        ("lambda: 1", "cannot stand in a condition"),
        ("binding.addresses[0] == '::1'", "cannot stand in a condition"),
        ("sequence + 1 == 2", "cannot stand in a condition"),
        ("9 ** 9 ** 9", "cannot stand in a condition"),
        ("f'{lease}' == ''", "cannot stand in a condition"),
        ("(sequence := 5)", "cannot stand in a condition"),
        ("sequence == b'x'", "cannot stand in a condition"),
        ("sequence == 1\nimport os", "is no condition"),
        ("sequence\0", "is no condition"),
        ("x" * (MAX_LENGTH + 1), f"longer than {MAX_LENGTH}"),
    ],
)
def test_what_is_no_condition(text: str, said: str) -> None:
    with pytest.raises(ConditionError) as error:
        Condition(text, NAMES)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "text",
    ["(" * 400 + "1" + ")" * 400, "not " * 240 + "1", "lease" + ".a" * 490, "-" * 900 + "1", "[" * 490 + "]" * 490],
)
def test_a_deep_one_is_refused_or_holds_and_is_no_defect(text: str) -> None:
    with suppress(ConditionError):
        holds(text)


def test_a_time_is_compared_with_times() -> None:
    condition = Condition("time > 'noon'", NAMES)
    with pytest.raises(ConditionError, match="'noon' is compared with a time"):
        condition.holds(SCOPE.__getitem__)


@given(st.text(alphabet="le as.=<>'\"0:()[]notidrb/-+*\n\\", max_size=40))
def test_no_text_is_a_defect(text: str) -> None:
    with suppress(ConditionError):
        holds(text)
