"""A request that waits for its answer."""

from __future__ import annotations

from dnms.wire.channel import Channel

ANSWER_WITHIN = 10.0  # seconds; TCP repeats what is lost, so this is for an agent that dropped the request
TRIES = 3


class Asked:
    """Sends a request, and sends it again under the same id until it is answered or was tried often enough.

    The same id means the same request: an agent that still works on it does not begin anew.
    """

    def __init__(self, channel: Channel, frame_id: int, frames: bytes, *, now: float, tries: int = TRIES) -> None:
        self.id = frame_id
        self.began = now  # lifetimes in the answer count from here: never later than where the agent counts from
        self.again_at = now + ANSWER_WITHIN
        self._channel = channel
        self._frames = frames
        self._left = tries - 1
        channel.send_frames(frames)

    def wait(self, seconds: float, now: float) -> None:
        """The peer wants to be asked again, but later."""
        self.again_at = now + seconds
        self._left = max(self._left, 1)

    def tick(self, now: float) -> bool:
        """Send it again if that is due; False if it was tried often enough."""
        if now < self.again_at:
            return True
        if self._left <= 0:
            return False
        self._left -= 1
        self.again_at = now + ANSWER_WITHIN
        self._channel.send_frames(self._frames)
        return True
