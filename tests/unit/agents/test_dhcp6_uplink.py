"""What an upstream by DHCPv6 has at its start, before a server has said anything."""

from __future__ import annotations

from pathlib import Path

import pytest

from dnms.agents.subnet.dhcp6_uplink import Dhcp6Uplink
from dnms.disk.dhcp6_state import Dhcp6State, Dhcp6StateError, Dhcp6StateFile
from dnms.events.ip import parse_prefix
from dnms.events.requests import UplinkPrefix

SECOND = 1_000_000
SHORT = UplinkPrefix(prefix=parse_prefix("2001:db8:100::/56"), preferred_until=150 * SECOND, valid_until=200 * SECOND)
LONG = UplinkPrefix(prefix=parse_prefix("2001:db8:200::/56"), preferred_until=0, valid_until=900 * SECOND)


def uplink(path: Path, now: int) -> Dhcp6Uplink:
    return Dhcp6Uplink("wan0", state=path, now=lambda: now * SECOND)


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    state = Dhcp6State(duid=b"\x00\x04" + bytes(16), server=b"\x00\x01", prefixes=(SHORT, LONG), told=100 * SECOND)
    Dhcp6StateFile(tmp_path, "wan0").write(state)
    return tmp_path


async def test_at_its_first_start_it_knows_nothing(tmp_path: Path) -> None:
    first = uplink(tmp_path, 100)
    assert first.current() is None
    assert not first.changed.is_set()


@pytest.mark.parametrize(
    ("now", "has"),
    [
        (120, (SHORT, LONG)),
        (200, (LONG,)),
        (1_000, ()),
        (5, (SHORT, LONG)),  # the clock was set back
    ],
)
async def test_after_a_restart_it_has_what_is_not_over(kept: Path, now: int, has: tuple[UplinkPrefix, ...]) -> None:
    again = uplink(kept, now)
    assert again.changed.is_set()
    received = again.current()
    assert received is not None
    assert received.prefixes == has
    assert received.source.name == "dhcpv6 00:01"
    assert received.why == "cut"


async def test_a_state_that_cannot_be_read_ends_it(kept: Path) -> None:
    (kept / "dhcp6.wan0").write_bytes(b"\xc1")
    with pytest.raises(Dhcp6StateError, match="move it away"):
        uplink(kept, 100)
