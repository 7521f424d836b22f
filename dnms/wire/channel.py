"""What both ends of a session share: frames in and out, their rate, and whether the peer is still there."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator

import msgspec

from dnms.wire.errors import Code, PeerError
from dnms.wire.frames import MAX_FRAME, MAX_ID, NOT_A_REQUEST, Frame, FrameReader, encode
from dnms.wire.messages import Endpoint, Error, Message, Ping, Pong
from dnms.wire.rates import Bucket

HELLO_LIMIT = 32 * 1024  # bytes of a frame from a peer that has not said who it is; a full `hello` fits
FRAMES_AT_ONCE = 256  # a registration in the smallest pieces, and all else that a node can have to say
FRAMES_A_SECOND = 64  # no honest peer says so much for long
MISSED_PINGS = 3


class Closed(msgspec.Struct, frozen=True):
    """The session is over. Send what `to_send` still gives, and close the connection."""

    why: str  # a stable word: a `Code`, or what this side's shell gave as its reason
    said: str = ""  # the peer's own word, where it gave one: not to be trusted as a key of anything
    text: str = ""  # for people
    retry_after: int = 0  # seconds
    go_to: tuple[Endpoint, ...] = ()  # where an agent that leaves says to go


class Channel:
    """A stream of frames with one peer."""

    def __init__(self, *, now: float, limit: int = MAX_FRAME) -> None:
        self.dropped: Counter[str] = Counter()
        self.heard = 0  # frames of the peer, of whatever kind
        self._reader = FrameReader(limit)
        self._rate = Bucket(burst=FRAMES_AT_ONCE, per_second=FRAMES_A_SECOND, now=now)
        self._out = bytearray()
        self._last_id = NOT_A_REQUEST
        self._ping_every = math.inf
        self._ping_at = math.inf
        self._missed = 0
        self._asked = NOT_A_REQUEST  # a ping, and its answer is worth knowing of
        self.answered = False  # it came

    def greeted(self, *, ping_every: float, now: float) -> None:
        """Both know each other: whole frames are taken, and the peer is watched."""
        self._reader.limit = MAX_FRAME
        self._ping_every = ping_every
        self._ping_at = now + ping_every

    def receive(self, data: bytes, now: float) -> Iterator[Frame]:
        """The frames of known kinds that are not about the channel itself; PeerError."""
        self._reader.receive(data)
        for frame in self._reader.frames():
            if not self._rate.take(now):
                raise PeerError(Code.TOO_FAST)
            self.heard += 1
            self._missed = 0
            self._ping_at = now + self._ping_every
            if not isinstance(frame, Frame):
                self.dropped[Code.UNKNOWN_KIND] += 1
                self.send(Error(code=Code.UNKNOWN_KIND, text=repr(frame.kind)), frame.id)
            elif isinstance(frame.message, Ping):
                self.send(Pong(), frame.id)
            elif isinstance(frame.message, Error) and frame.message.code == Code.UNKNOWN_KIND:
                self.dropped[Code.UNKNOWN_KIND] += 1  # the peer is older; what was said is optional to it
            elif not isinstance(frame.message, Pong):
                yield frame
            elif frame.id == self._asked:
                self.answered = True

    def end(self) -> Code:
        """The stream ended: cleanly, or in the middle of a frame."""
        return Code.TRUNCATED if self._reader.within_a_frame else Code.END

    def next_id(self) -> int:
        """An id for a request of this side."""
        self._last_id = self._last_id % MAX_ID + 1
        return self._last_id

    def ask(self) -> None:
        """Ask the peer whether it is there, now; `answered` is true once it has answered this."""
        self._asked, self.answered = self.next_id(), False
        self.send(Ping(), self._asked)

    def send(self, message: Message, frame_id: int = NOT_A_REQUEST) -> None:
        """Send a message."""
        self._out += encode(message, frame_id)

    def send_frames(self, frames: bytes) -> None:
        """Send what is encoded already."""
        self._out += frames

    def to_send(self) -> bytes:
        """The bytes to write."""
        out = bytes(self._out)
        self._out.clear()
        return out

    def deadline(self) -> float:
        """When to call `tick`."""
        return self._ping_at

    def tick(self, now: float) -> bool:
        """Ask a silent peer whether it is there; False when it has not answered for too long.

        One step a call, so that a machine which slept for an hour asks before it gives its peers up.
        """
        if now >= self._ping_at:
            if self._missed >= MISSED_PINGS:
                return False
            self._missed += 1
            self._ping_at = now + self._ping_every
            self.send(Ping(), self.next_id())
        return True
