from __future__ import annotations

import pytest

from dnms.events.ip import parse_address
from dnms.wire.seen_forms import form_of

HARDWARE = bytes.fromhex("0200000000aa")
OTHERS = [parse_address("2001:db8::1234:5678:9abc:def0")]


@pytest.mark.parametrize(
    ("address", "others", "said"),
    [
        ("192.0.2.7", [], ("ipv4", "unknown", "guess")),
        ("2001:db8::ff:fe00:aa", [], ("eui-64", "stable", "certain")),
        ("fe80::ff:fe00:aa", [], ("eui-64", "stable", "certain")),
        ("2001:db8::ff:fe00:bb", [], ("eui-64", "stable", "likely")),
        ("2001:db8::7", OTHERS, ("low", "stable", "likely")),
        ("fe80::1", [], ("low", "stable", "likely")),
        ("fe80::1:2:3:4", [], ("link-local", "stable", "likely")),
        ("2001:db8::1:2:3:4", [], ("random", "unknown", "guess")),
        ("2001:db8::1:2:3:4", OTHERS, ("random", "temporary", "guess")),
        ("2001:db8:1::1:2:3:4", OTHERS, ("random", "unknown", "guess")),
        ("2001:db8::1:2:3:4", [parse_address("2001:db8::7")], ("random", "unknown", "guess")),
        ("2001:db8::1:2:3:4", [parse_address("2001:db8::1:2:3:4")], ("random", "unknown", "guess")),
    ],
)
def test_what_an_address_says_of_how_it_came_about(
    address: str, others: list[bytes], said: tuple[str, str, str]
) -> None:
    form = form_of(parse_address(address), HARDWARE, others)
    assert (form.form, form.lasting, form.sure) == said
