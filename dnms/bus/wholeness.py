"""What JetStream says of its own stream that a log's cannot be: messages that it had and has no more.

It says so in the state of the stream, to whoever looks, and goes on. Nothing is ever deleted from a log, so it begins
at 1, has as many messages as its last sequence says, and nothing was cut off its end. What this does not show: an end
that is missing since an earlier start of the server, which is why a position that was read is stored and checked
(`reading`), and a message whose bytes are damaged, which the server finds when it reads it and leaves out
(`following`).

What was cut off may be a write that the server had not finished when it was killed; of the embedded one that is taken
away before (`unfinished`). So it stops who begins to read, and not who goes on: that one knows how far it has read.
"""

from __future__ import annotations

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
        """Whether there is a message at every sequence up to the last one."""
        return self.messages == self.last_seq

    @property
    def cut_off(self) -> bool:
        """Whether the server has found bytes unreadable at its start, and dropped them."""
        return self.lost is not None


def damage(stream: str, state: State) -> LogDamaged:
    """What to raise for a state that is not whole."""
    missing = _missing(state)
    said = []
    if missing:
        count = sum(last - first + 1 for first, last in missing)
        places = [str(first) if first == last else f"{first} to {last}" for first, last in missing[:MAX_RANGES]]
        more = ", …" if len(missing) > MAX_RANGES else ""
        said.append(f"{count} messages are missing, at {', '.join(places)}{more}")
    if state.lost is not None:
        said.append(f"the bus found {state.lost.bytes} bytes unreadable at its start and cut them off")
    if not said:
        said.append(f"it has {state.messages} messages, and its last one is {state.last_seq}")
    end = missing[-1][0] - 1 if missing and missing[-1][1] >= state.last_seq else state.last_seq
    return LogDamaged(f"{stream}: {'; '.join(said)}; what can be read ends at {end}")


def _missing(state: State) -> list[tuple[int, int]]:
    """First and last of each range of sequences that the server knows to be missing, in their order."""
    gone = state.lost.msgs or [] if state.lost is not None else []
    ranges = [(1, state.first_seq - 1)] if state.first_seq > 1 else []
    for number in sorted({*state.deleted, *gone}):
        if ranges and number <= ranges[-1][1] + 1:
            ranges[-1] = (ranges[-1][0], max(number, ranges[-1][1]))
        elif number:  # an empty stream calls 0 deleted
            ranges.append((number, number))
    return ranges
