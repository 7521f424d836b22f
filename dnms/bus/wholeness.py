"""What JetStream says of its own stream that a log's cannot be: messages that it had and has no more.

It says so in the state of the stream, to whoever looks, and goes on. Nothing is ever deleted from a log, so it begins
at 1, has as many messages as its last sequence says, and has lost nothing. What this does not show: an end that is
missing since an earlier start of the server, which is why a position that was read is stored and checked (`reading`),
and a message whose bytes are damaged, which the server finds when it reads it and leaves out (`following`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec

from dnms.bus.port import LogDamaged

MAX_RANGES = 8  # of positions that are named; the first ones tell where it begins


class Lost(msgspec.Struct):
    """What the server found unreadable when it started, and cut off."""

    msgs: list[int] | None = None
    bytes: int = 0


class State(msgspec.Struct):
    """The state of a stream, in JetStream's words, asked for with the details."""

    messages: int = 0
    first_seq: int = 0
    last_seq: int = 0
    deleted: list[int] = []
    lost: Lost | None = None

    @property
    def whole(self) -> bool:
        """Whether nothing is missing that it can know of."""
        return self.messages == self.last_seq and self.lost is None


def damage(stream: str, state: State) -> LogDamaged:
    """What to raise for a state that is not whole."""
    gone = state.lost.msgs or [] if state.lost else []
    missing = {*range(1, state.first_seq), *state.deleted, *gone} - {0}  # which an empty stream calls deleted
    said = []
    if missing:
        said.append(f"{len(missing)} messages are missing, at {', '.join(_ranges(missing))}")
    if state.lost is not None:
        said.append(f"the bus found {state.lost.bytes} bytes unreadable and cut them off")
    if not said:
        said.append(f"it has {state.messages} messages, and its last one is {state.last_seq}")
    return LogDamaged(f"{stream}: {'; '.join(said)}; what can be read ends at {_last(state, missing)}")


def _last(state: State, missing: set[int]) -> int:
    last = state.last_seq
    while last in missing:
        last -= 1
    return last


def _ranges(numbers: Iterable[int]) -> Iterator[str]:
    """`3`, `5 to 9`, …, and `…` if there are more."""
    ranges: list[list[int]] = []
    for number in sorted(numbers):
        if ranges and number == ranges[-1][1] + 1:
            ranges[-1][1] = number
        else:
            ranges.append([number, number])
    for first, last in ranges[:MAX_RANGES]:
        yield str(first) if first == last else f"{first} to {last}"
    if len(ranges) > MAX_RANGES:
        yield "…"
