from __future__ import annotations

import pytest

from dnms.domain.identity import duid_of_hardware, iaid_of_hardware, parse_duid, parse_hardware


@pytest.mark.parametrize("text", ["02:00:5e:10:00:01", "02-00-5E-10-00-01", " 02005e100001 "])
def test_a_hardware_address_is_read_as_people_write_it(text: str) -> None:
    address = parse_hardware(text)
    assert address == bytes.fromhex("02005e100001")
    assert duid_of_hardware(address) == parse_duid("00:03:00:01:02:00:5e:10:00:01")
    assert iaid_of_hardware(address) == 0x5E100001


@pytest.mark.parametrize(
    "text",
    ["", "02:00:5e:10:00", "02:00:5e:10:00:01:02", "00:00:00:00:00:00", "01:00:5e:00:00:01", "ff:ff:ff:ff:ff:ff", "x"],
)
def test_what_no_interface_has_is_none(text: str) -> None:
    with pytest.raises(ValueError, match="is no hardware address"):
        parse_hardware(text)
