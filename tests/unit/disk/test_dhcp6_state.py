"""What a requesting router and an advertising one keep over their end."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from dnms.disk.advertised import AdvertisedError, AdvertisedFile
from dnms.disk.dhcp6_state import Dhcp6State, Dhcp6StateError, Dhcp6StateFile
from dnms.events.ip import parse_prefix
from dnms.events.requests import UplinkPrefix

PREFIX, OTHER = parse_prefix("2001:db8:100::/56"), parse_prefix("2001:db8:200::/64")
HELD = UplinkPrefix(prefix=PREFIX, preferred_until=5, valid_until=9, exclude=OTHER)


def drawn(count: int) -> bytes:
    return bytes(range(count))


def never(count: int) -> bytes:
    raise AssertionError(f"it draws {count} bytes")


def test_a_duid_is_drawn_once_and_kept_with_what_was_delegated(tmp_path: Path) -> None:
    file = Dhcp6StateFile(tmp_path / "agent", "wan0")
    state = file.read(draw=drawn)
    assert state == Dhcp6State(duid=b"\x00\x04" + bytes(range(16)))
    assert Dhcp6StateFile(tmp_path / "agent", "wan0").read(draw=never) == state
    held = msgspec.structs.replace(state, server=b"\x00\x04server", prefixes=(HELD,), told=7)
    file.write(held)
    assert Dhcp6StateFile(tmp_path / "agent", "wan0").read(draw=never) == held
    assert Dhcp6StateFile(tmp_path / "agent", "wan1").read(draw=bytes) != held
    assert file.path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("content", [b"", b"\xc1", b"\x80", b"\x81\xa4duid\x01", b"\xff" * 1_000])
def test_a_state_that_cannot_be_read_is_not_replaced(tmp_path: Path, content: bytes) -> None:
    file = Dhcp6StateFile(tmp_path, "wan0")
    file.path.write_bytes(content)
    with pytest.raises(Dhcp6StateError, match="move it away and start again"):
        file.read(draw=never)
    assert file.path.read_bytes() == content


def test_a_directory_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "agent").write_text("a file")
    with pytest.raises(Dhcp6StateError, match="cannot"):
        Dhcp6StateFile(tmp_path / "agent", "wan0").read(draw=drawn)
    with pytest.raises(AdvertisedError, match="cannot write"):
        AdvertisedFile(tmp_path / "agent" / "advertised").write({PREFIX: 1})


def test_what_was_advertised(tmp_path: Path) -> None:
    path = tmp_path / "agent" / "advertised-home"
    assert AdvertisedFile(path).read() == {}
    AdvertisedFile(path).write({OTHER: 1_700_000_000_000_000, PREFIX: 1})
    assert AdvertisedFile(path).read() == {OTHER: 1_700_000_000_000_000, PREFIX: 1}
    assert list(path.parent.iterdir()) == [path]
    path.write_bytes(b"\x91\x01")
    with pytest.raises(AdvertisedError, match="move it away and start again"):
        AdvertisedFile(path).read()
