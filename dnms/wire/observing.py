"""What a node tells of its configuration beside the exchange that goes on: one observation at a time, the newest.

What goes before it was ever told would leave no trace in the log: some snapshots are told though there are newer ones.
"""

from __future__ import annotations

import math
from collections import deque

from dnms.events.configuration import Snapshot
from dnms.wire.asked import Asked
from dnms.wire.channel import Channel
from dnms.wire.errors import Code
from dnms.wire.frames import encode
from dnms.wire.messages import Error, Observe
from dnms.wire.node_state import NodeState
from dnms.wire.registration import cut, digest_of, encode_snapshot

MAX_WAITING = 8  # snapshots; they wait for one answer, and more come only where somebody fights with the agent


class Observing:
    """The snapshots of one session. Nothing is observed before the first one is registered."""

    def __init__(self, channel: Channel, state: NodeState) -> None:
        self._channel = channel
        self._state = state
        self._known = b""  # digest of the newest snapshot that the agent has
        self._sent = b""  # the snapshot that is on its way
        self._waiting: deque[tuple[bytes, bool]] = deque(maxlen=MAX_WAITING)  # later ones; whether each lasts
        self._asked: Asked | None = None

    def register(self, snapshot: Snapshot) -> tuple[int, bytes]:
        """The id and the frames of a registration, an exchange of the session itself; ValueError if it is too large."""
        self._sent = encode_snapshot(snapshot)
        return self._whole()

    def confirm(self, digest: bytes, now: float) -> None:
        """The agent has the registered one."""
        self._known = self._state.registered = digest
        self._follow(now)

    def observe(self, snapshot: Snapshot, now: float, *, lasting: bool = False) -> None:
        """There is a newer snapshot; ValueError if it is too large. A `lasting` one is told in any case."""
        data = encode_snapshot(snapshot)
        if self._waiting and not self._waiting[-1][1]:
            self._waiting.pop()
        self._waiting.append((data, lasting))
        self._follow(now)

    def registered(self, frame_id: int, digest: bytes, now: float) -> bool:
        """The agent has it; False if that answers nothing that was observed."""
        if self._asked is None or self._asked.id != frame_id:
            return False
        self._asked = None
        self.confirm(digest, now)
        return True

    def refused(self, frame_id: int, error: Error, now: float) -> bool:
        """The agent did not take it; False if that answers nothing that was observed.

        Where the agent does not know what it follows, it is registered whole. An agent that is busy hears it again.
        Else it is given up, and counted.
        """
        if self._asked is None or self._asked.id != frame_id:
            return False
        if error.code == Code.DIGEST:
            self._asked = Asked(self._channel, *self._whole(), now=now)
        elif error.retry_after:
            self._asked.wait(error.retry_after, now)
        else:
            self._asked = None
            self._channel.dropped[Code.REFUSED] += 1
            self._follow(now)
        return True

    def deadline(self) -> float:
        """When to call `tick`."""
        return self._asked.again_at if self._asked is not None else math.inf

    def tick(self, now: float) -> bool:
        """Time passed; False if the agent never answers. The next session registers all of it."""
        return self._asked is None or self._asked.tick(now)

    def _follow(self, now: float) -> None:
        if not self._known or self._asked is not None or not self._waiting:
            return
        self._sent, _ = self._waiting.popleft()
        digest = digest_of(self._sent)
        if digest == self._known:
            self._follow(now)
            return
        frame_id = self._channel.next_id()
        observe = Observe(previous=self._known, digest=digest, snapshot=self._sent)
        self._asked = Asked(self._channel, frame_id, encode(observe, frame_id), now=now)

    def _whole(self) -> tuple[int, bytes]:
        frame_id = self._channel.next_id()
        return frame_id, b"".join(encode(chunk, frame_id) for chunk in cut(self._sent, follows=self._state.registered))
