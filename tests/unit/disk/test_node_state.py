from __future__ import annotations

import secrets
import stat
from pathlib import Path

import pytest

from dnms.disk.node_state import DUID_UUID, Identity, Kept, NodeStateDirectory, NodeStateError
from dnms.events.configuration import AssignedAddress, Assignment, Generation
from dnms.events.ip import parse_address

BOARD, CARD, DOCKER = "02:00:00:00:00:01", "02:00:00:00:00:02", "02:42:00:00:00:01"
ADDRESS = parse_address("2001:db8::7")
KEPT = Kept(
    assignment=Assignment(
        generation=Generation(0, 1, 2),
        addresses=(AssignedAddress(address=ADDRESS, prefix_length=64, iaid=1, preferred=60, valid=120),),
    ),
    site="s",
    subnet="office",
    usable=(ADDRESS,),
    since=1_700_000_000_000_000,
    renew_after=30,
    rebind_after=48,
)


def identity(path: Path, machine: str = "uuid-1", hardware: tuple[str, ...] = (BOARD, CARD)) -> Identity:
    return NodeStateDirectory(path).identity(machine=machine, hardware=hardware, draw=secrets.token_bytes)


def test_the_identity_is_drawn_once(tmp_path: Path) -> None:
    path = tmp_path / "a" / "state"
    first = identity(path)
    assert first.duid.startswith(DUID_UUID)
    assert len(first.duid) == 18
    assert identity(path) == first
    assert stat.S_IMODE(path.stat().st_mode) == 0o700
    assert stat.S_IMODE((path / "identity").stat().st_mode) == 0o600


@pytest.mark.parametrize(
    ("machine", "hardware"),
    [
        ("uuid-1", (BOARD, CARD, DOCKER)),
        ("uuid-1", (BOARD,)),
        ("uuid-1", (CARD, "02:00:00:00:00:09")),
        ("uuid-1", ()),
        ("", (BOARD,)),  # the SMBIOS UUID cannot be read this time
    ],
)
def test_the_same_machine_keeps_it(tmp_path: Path, machine: str, hardware: tuple[str, ...]) -> None:
    first = identity(tmp_path)
    assert identity(tmp_path, machine, hardware).duid == first.duid
    assert identity(tmp_path).duid == first.duid


@pytest.mark.parametrize(
    ("machine", "hardware"),
    [("uuid-2", (BOARD, CARD)), ("uuid-1", ("02:00:00:00:00:09",)), ("", ("02:00:00:00:00:09",))],
)
def test_another_machine_draws_a_new_one_and_forgets_what_the_first_was_assigned(
    tmp_path: Path, machine: str, hardware: tuple[str, ...]
) -> None:
    first = identity(tmp_path)
    directory = NodeStateDirectory(tmp_path)
    directory.keep("eth0", KEPT)
    directory.keep("wlan0", KEPT)
    second = identity(tmp_path, machine, hardware)
    assert second.duid != first.duid
    assert directory.kept("eth0") is None
    assert directory.kept("wlan0") is None
    assert identity(tmp_path, machine, hardware) == second


def test_a_uuid_that_can_be_read_at_last_is_remembered(tmp_path: Path) -> None:
    first = identity(tmp_path, "")
    assert identity(tmp_path, "uuid-1").duid == first.duid
    assert identity(tmp_path, "uuid-2").duid != first.duid


def test_an_assignment_is_kept_for_its_interface(tmp_path: Path) -> None:
    directory = NodeStateDirectory(tmp_path)
    assert directory.kept("eth0") is None
    directory.keep("eth0", KEPT)
    assert NodeStateDirectory(tmp_path).kept("eth0") == KEPT
    assert directory.kept("eth1") is None
    directory.forget("eth0")
    directory.forget("eth0")
    assert directory.kept("eth0") is None


@pytest.mark.parametrize("content", [b"", b"\xc1", b"\x80", b"\x91" * 2000, b"\xa3abc"])
def test_a_damaged_file_is_one_clear_line(tmp_path: Path, content: bytes) -> None:
    directory = NodeStateDirectory(tmp_path)
    for name in ("identity", "assignment.eth0"):
        (tmp_path / name).write_bytes(content)
    for call in (lambda: identity(tmp_path), lambda: directory.kept("eth0")):
        with pytest.raises(NodeStateError, match=r"cannot read .*: move it away and start again") as error:
            call()
        assert "\n" not in str(error.value)


def test_a_directory_that_cannot_be_made_or_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(NodeStateError, match="cannot make"):
        NodeStateDirectory(tmp_path / "file" / "state")
    directory = NodeStateDirectory(tmp_path)
    (tmp_path / "assignment.eth0").mkdir()
    with pytest.raises(NodeStateError, match="cannot write"):
        directory.keep("eth0", KEPT)
    with pytest.raises(NodeStateError, match="cannot remove"):
        directory.forget("eth0")


def test_an_interface_has_one_agent(tmp_path: Path) -> None:
    first, second = NodeStateDirectory(tmp_path), NodeStateDirectory(tmp_path)
    refused = pytest.raises(NodeStateError, match="another Node Agent runs on eth0")
    with first.own("eth0"), second.own("eth1"), refused, second.own("eth0"):
        pass
    with second.own("eth0"):
        pass
