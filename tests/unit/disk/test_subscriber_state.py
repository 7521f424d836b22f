"""What a subscriber keeps over its end."""

from __future__ import annotations

from pathlib import Path

import pytest

from dnms.disk.subscriber_state import Acted, SubscriberState, SubscriberStateError

ACTED = Acted("one", 7, "0a0b")


@pytest.fixture
def state(tmp_path: Path) -> SubscriberState:
    return SubscriberState(tmp_path / "subscribers", "firewall")


def test_what_was_written_is_read_by_the_next_one(state: SubscriberState) -> None:
    with state.own():
        assert state.read() is None
        state.write(ACTED)
    again = SubscriberState(state.path.parent, "firewall")
    assert again.read() == ACTED
    assert SubscriberState(state.path.parent, "routes").read() is None
    assert state.path.read_text() == '{"log_id":"one","sequence":7,"commit":"0a0b"}'


def test_two_of_one_name_are_refused_and_of_two_names_not(state: SubscriberState) -> None:
    directory = state.path.parent
    refused = pytest.raises(SubscriberStateError, match=r"another subscriber firewall runs .*: stop it first")
    with state.own(), SubscriberState(directory, "routes").own(), refused, SubscriberState(directory, "firewall").own():
        pass
    with SubscriberState(directory, "firewall").own():
        pass


@pytest.mark.parametrize("content", [b"", b"{}", b'{"log_id":"one","sequence":"7","commit":""}', b"\xff\xfe"])
def test_a_broken_one_is_no_missing_one(state: SubscriberState, content: bytes) -> None:
    with state.own():
        state.path.write_bytes(content)
    with pytest.raises(SubscriberStateError, match=r"cannot read .*firewall\.json .*: restore it, or move it away"):
        state.read()


def test_where_it_cannot_be_written_is_told(state: SubscriberState) -> None:
    with pytest.raises(SubscriberStateError, match="cannot write"):
        state.write(ACTED)  # there is no directory
    state.path.parent.write_text("a file")
    with pytest.raises(SubscriberStateError, match="cannot write"), state.own():
        pass
