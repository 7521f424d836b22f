"""What the state of a stream says of messages that are missing."""

from __future__ import annotations

import pytest

from dnms.bus.port import LogDamaged
from dnms.bus.wholeness import Lost, State, damage


@pytest.mark.parametrize(
    "state",
    [
        State(),
        State(deleted=[0]),  # an empty stream after a restart
        State(messages=12, first_seq=1, last_seq=12),
    ],
)
def test_a_whole_stream(state: State) -> None:
    assert state.whole
    assert not state.cut_off


@pytest.mark.parametrize(
    ("state", "says"),
    [
        (
            State(messages=9, first_seq=1, last_seq=12, deleted=[4, 5, 9]),
            "3 messages are missing, at 4 to 5, 9; what can be read ends at 12",
        ),
        (
            State(messages=3, first_seq=1, last_seq=12, deleted=list(range(4, 13))),
            "9 messages are missing, at 4 to 12; what can be read ends at 3",
        ),
        (
            State(first_seq=13, last_seq=12, lost=Lost(msgs=list(range(1, 13)), bytes=3_036)),
            "12 messages are missing, at 1 to 12; the bus found 3036 bytes unreadable at its start and cut them off; "
            "what can be read ends at 0",
        ),
        (
            State(messages=3, first_seq=1, last_seq=3, lost=Lost(bytes=151)),
            "the bus found 151 bytes unreadable at its start and cut them off; what can be read ends at 3",
        ),
        (
            State(messages=10, first_seq=3, last_seq=12),
            "2 messages are missing, at 1 to 2; what can be read ends at 12",
        ),
        (State(messages=10, first_seq=1, last_seq=12), "it has 10 messages, and its last one is 12"),
        (State(messages=9, last_seq=29, deleted=list(range(2, 30, 2))), "at 2, 4, 6, 8, 10, 12, 14, 16, …;"),
    ],
)
def test_what_is_missing_is_told(state: State, says: str) -> None:
    assert not state.whole or state.cut_off
    told = damage("DNMS_here", state)
    assert isinstance(told, LogDamaged)
    assert str(told).startswith("DNMS_here: ")
    assert says in str(told)
