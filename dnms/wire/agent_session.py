"""The agent's end of a session. It reads, checks and caps; what to answer is the shell's to decide, in its own time.

    session = AgentSession(now=now)
    session.receive(data, now)                    # the shell owns the TLS connection, and reads no further until
    await write(session.to_send(now))             # what was to be sent is written: a peer that never reads gets no more
    for event in session.events(): …              # Greeted: call welcome or refuse; Requested: call assign or error; …
    wake_at = session.deadline()                  # then call tick

An event with an `id` is a request: answer it with that id, once. Answers to a session that has ended go nowhere.
"""

from __future__ import annotations

import math
from collections import Counter, deque

from dnms.events.configuration import Generation
from dnms.wire import messages
from dnms.wire.agent_events import (
    AgentEvent,
    AppliedReport,
    Confirmed,
    Declined,
    DriftReport,
    Greeted,
    Observed,
    Rebound,
    Registered,
    Released,
    Renewed,
    Requested,
)
from dnms.wire.channel import HELLO_LIMIT, Channel, Closed
from dnms.wire.errors import Code, PeerError
from dnms.wire.frames import NOT_A_REQUEST, Frame
from dnms.wire.messages import LOWEST_VERSION, VERSION, Endpoint, Message
from dnms.wire.phases import ACCEPTS, Phase
from dnms.wire.rates import Bucket
from dnms.wire.registration import Collector, decode_snapshot

HELLO_WITHIN = 10.0  # seconds; who connects and says nothing holds a descriptor
REGISTER_WITHIN = 60.0  # seconds after the welcome; 256 KiB over the slowest link
MAX_IN_FLIGHT = 8  # requests without an answer; a node has one exchange and one observation, and perhaps tries again
REQUESTS_AT_ONCE = 16  # each may become a commit in the log
REQUESTS_A_SECOND = 1.0
DRIFTS_AT_ONCE = 32  # each becomes an event in the log, which nobody can purge; a node keeps to less by itself
DRIFTS_AN_HOUR = 120
UNREPORTED = 16  # assignments whose outcome is still awaited; a node reports the newest of several


def choose_version(lowest: int, highest: int) -> int | None:
    """The highest version that both ends speak, of a peer that speaks these."""
    chosen = min(highest, VERSION)
    return chosen if chosen >= max(lowest, LOWEST_VERSION) else None


class AgentSession:
    """One connection from one node. When it ends, `phase` is CLOSED and the last event is `Closed`."""

    def __init__(self, *, now: float) -> None:
        self.phase = Phase.GREETING
        self.digest = b""  # of the newest configuration that the shell has acknowledged
        self._channel = Channel(now=now, limit=HELLO_LIMIT)
        self._requests = Bucket(burst=REQUESTS_AT_ONCE, per_second=REQUESTS_A_SECOND, now=now)
        self._drift = Bucket(burst=DRIFTS_AT_ONCE, per_second=DRIFTS_AN_HOUR / 3600, now=now)
        self._collector = Collector()
        self._in_flight: dict[int, bytes] = {}  # requests without an answer; the digest of registrations
        self._unreported: deque[Generation] = deque(maxlen=UNREPORTED)
        self._unproven: Generation | None = None  # reported, and the outcome of its proof is still awaited
        self._events: list[AgentEvent] = []
        self._hello_id = NOT_A_REQUEST
        self._version = 0
        self._by = now + HELLO_WITHIN  # the next phase has to come until then

    # What the shell calls.

    @property
    def dropped(self) -> Counter[str]:
        """What was ignored, by its word."""
        return self._channel.dropped

    @property
    def heard(self) -> int:
        """How many frames the node has sent, answers to pings too: who was heard since is there."""
        return self._channel.heard

    @property
    def closed(self) -> bool:
        """Whether the session is over."""
        return self.phase is Phase.CLOSED

    def receive(self, data: bytes, now: float) -> None:
        """Take bytes from the node."""
        if self.closed:
            return
        try:
            for frame in self._channel.receive(data, now):
                self._take(frame, now)
                if self.closed:
                    return
        except PeerError as error:
            self._fail(error)

    def receive_end(self, now: float) -> None:
        """The node's stream ended, or the connection broke."""
        self._close(Closed(self._channel.end()))

    def to_send(self, now: float) -> bytes:
        """The bytes to write to the node, after `Closed` too."""
        return self._channel.to_send()

    def deadline(self) -> float | None:
        """When to call `tick`."""
        if self.closed:
            return None
        earliest = min(self._channel.deadline(), self._by)
        return None if math.isinf(earliest) else earliest

    def tick(self, now: float) -> None:
        """Time passed."""
        if self.closed:
            return
        if now >= self._by:
            self._fail(PeerError(Code.HELLO_TIMEOUT if self.phase is Phase.GREETING else Code.REGISTER_TIMEOUT))
        elif not self._channel.tick(now):
            self._close(Closed(Code.DEAD_PEER))

    def events(self) -> list[AgentEvent]:
        """What happened since the last call."""
        events, self._events = self._events, []
        return events

    def welcome(
        self,
        *,
        agent: str,
        site: str,
        subnet: str,
        mode: str = "manage",
        time: int,
        ping_every: int = 15,
        outage: bool = False,
        now: float,
    ) -> None:
        """Answer `Greeted`: the node may register. `time` is the wall clock in microseconds."""
        if self.phase is not Phase.WELCOMING:
            return
        welcome = messages.Welcome(
            version=self._version,
            agent=agent,
            site=site,
            subnet=subnet,
            mode=mode,
            time=time,
            ping_every=ping_every,
            outage=outage,
        )
        self._channel.send(welcome, self._hello_id)
        self._channel.greeted(ping_every=ping_every, now=now)
        self.phase = Phase.REGISTERING
        self._by = now + REGISTER_WITHIN

    def refuse(self, code: str, text: str = "", *, retry_after: int = 0) -> None:
        """Answer `Greeted`: not this node, or not now. Ends the session."""
        if self.phase is Phase.WELCOMING:
            self._channel.send(messages.Error(code=code, text=text, retry_after=retry_after), self._hello_id)
            self._close(Closed(code, text=text))

    def registered(self, answer_to: int) -> None:
        """Answer `Registered` or `Observed`: it is in the log, or noted for it while that cannot be reached."""
        digest = self._answered(answer_to)
        if digest is None:
            return
        self.digest = digest
        self._channel.send(messages.Registered(digest=digest), answer_to)
        if self.phase is Phase.REGISTERING:
            self.phase = Phase.OPEN
            self._by = math.inf

    def assign(self, assign: messages.Assign, *, answer_to: int = NOT_A_REQUEST) -> None:
        """Answer a request with the complete wanted configuration, or push it without one."""
        if self._may_answer(answer_to):
            self._unreported.append(assign.assignment.generation)
            self._channel.send(assign, answer_to)

    def extended(self, extended: messages.Extended, *, answer_to: int = NOT_A_REQUEST) -> None:
        """New lifetimes of all that the node holds, as an answer or without a request."""
        if self._may_answer(answer_to):
            self._channel.send(extended, answer_to)

    def error(self, answer_to: int, code: str, text: str = "", *, retry_after: int = 0) -> None:
        """Answer a request: not done, and why. The session goes on."""
        if self._answered(answer_to) is not None:
            self._channel.send(messages.Error(code=code, text=text, retry_after=retry_after), answer_to)

    def bye(self, why: str, *, go_to: tuple[Endpoint, ...] = ()) -> None:
        """End the session; `why` is a stable word. An agent that leaves may say where to go."""
        if not self.closed:
            self._channel.send(messages.Bye(why=why, go_to=go_to))
            self._close(Closed(why))

    # Inside.

    def _take(self, frame: Frame, now: float) -> None:
        message = frame.message
        if isinstance(message, messages.Hello) and frame.id == self._hello_id != NOT_A_REQUEST:
            self.dropped[Code.REPEATED] += 1  # it did not hear our welcome in time
            return
        if type(message) not in ACCEPTS[self.phase]:
            raise PeerError(Code.UNEXPECTED, f"{message.KIND} while {self.phase}")
        match message:
            case messages.Hello():
                self._take_hello(frame.id, message)
            case messages.Applied():
                self._take_applied(message)
            case messages.Drifted():
                self._take_drifted(message, now)
            case messages.Bye():
                self._close(Closed(Code.BYE, said=message.why))
            case messages.Error():
                self._close(Closed(Code.REFUSED, said=message.code, text=message.text))
            case messages.Register():
                self._take_chunk(frame.id, message, now)
            case messages.Observe():
                self._take_observed(frame.id, message, now)
            case _:
                self._take_request(frame.id, message, now)

    def _take_hello(self, frame_id: int, hello: messages.Hello) -> None:
        version = choose_version(hello.lowest, hello.highest)
        if version is None:
            text = f"this agent speaks {LOWEST_VERSION} to {VERSION}, the node {hello.lowest} to {hello.highest}"
            self.dropped[Code.VERSION] += 1
            self._channel.send(messages.Error(code=Code.VERSION, text=text), frame_id)
            self._close(Closed(Code.VERSION, text=text))
            return
        self._hello_id, self._version = frame_id, version
        self.phase = Phase.WELCOMING
        self._by = math.inf
        self._events.append(Greeted(hello.duid, hello.name, hello.interface, hello.capabilities, hello.prefixes))

    def _take_applied(self, applied: messages.Applied) -> None:
        if applied.generation in self._unreported:
            self._unreported.remove(applied.generation)
        elif applied.unproven or applied.generation != self._unproven:
            self.dropped[Code.STALE] += 1
            return
        self._unproven = applied.generation if applied.unproven else None
        self._events.append(AppliedReport(applied.generation, applied.items, applied.unproven, applied.why))

    def _take_drifted(self, drifted: messages.Drifted, now: float) -> None:
        if self._drift.take(now):
            self._events.append(DriftReport(drifted))
        else:
            self.dropped[Code.BUSY] += 1

    def _take_chunk(self, frame_id: int, register: messages.Register, now: float) -> None:
        if frame_id in self._in_flight:
            self.dropped[Code.REPEATED] += 1
            return
        whole = self._collector.take(register, frame_id)
        if whole is None:
            return
        snapshot = decode_snapshot(whole, register.digest)
        if self._admit(frame_id, register.digest, now):
            self._events.append(Registered(frame_id, snapshot, register.digest, register.follows))

    def _take_observed(self, frame_id: int, observe: messages.Observe, now: float) -> None:
        snapshot = decode_snapshot(observe.snapshot, observe.digest)
        if not self._admit(frame_id, observe.digest, now):
            return
        if observe.previous != self.digest:
            self.error(frame_id, Code.DIGEST, "it follows a configuration that is not known here")
            return
        self._events.append(Observed(frame_id, snapshot, observe.digest, observe.previous))

    def _take_request(self, frame_id: int, message: Message, now: float) -> None:
        if not self._admit(frame_id, b"", now):
            return
        match message:
            case messages.RequestAddresses():
                self._events.append(Requested(frame_id, message.associations, message.generation))
            case messages.Renew():
                self._events.append(Renewed(frame_id, message.bindings, message.wanted, message.generation))
            case messages.Rebind():
                self._events.append(Rebound(frame_id, message.bindings, message.wanted, message.generation))
            case messages.Confirm():
                self._events.append(Confirmed(frame_id, message.bindings, message.wanted, message.generation))
            case messages.Release():
                self._events.append(Released(frame_id, message.bindings))
            case messages.Decline():
                self._events.append(Declined(frame_id, message.bindings, message.wanted))

    def _admit(self, frame_id: int, digest: bytes, now: float) -> bool:
        """Whether a request goes to the shell."""
        if frame_id == NOT_A_REQUEST:
            raise PeerError(Code.MALFORMED, "a request without an id")
        if frame_id in self._in_flight:
            self.dropped[Code.REPEATED] += 1
            return False
        if len(self._in_flight) >= MAX_IN_FLIGHT or not self._requests.take(now):
            self.dropped[Code.BUSY] += 1
            retry_after = round(MAX_IN_FLIGHT / REQUESTS_A_SECOND)
            self._channel.send(messages.Error(code=Code.BUSY, retry_after=retry_after), frame_id)
            return False
        self._in_flight[frame_id] = digest
        return True

    def _may_answer(self, answer_to: int) -> bool:
        if answer_to == NOT_A_REQUEST:
            return self.phase is Phase.OPEN
        return self._answered(answer_to) is not None

    def _answered(self, answer_to: int) -> bytes | None:
        """The request is answered with this call; None if the session has ended meanwhile."""
        if self.closed:
            return None
        try:
            return self._in_flight.pop(answer_to)
        except KeyError:
            raise ValueError(f"no request {answer_to} is without an answer") from None

    def _fail(self, error: PeerError) -> None:
        self.dropped[error.why] += 1
        self._channel.send(messages.Error(code=error.why, text=error.text[: messages.MAX_TEXT]))
        self._close(Closed(error.why, text=error.text))

    def _close(self, closed: Closed) -> None:
        if not self.closed:
            self.phase = Phase.CLOSED
            self._in_flight.clear()
            self._events.append(closed)
