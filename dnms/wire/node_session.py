"""The node's end of a session: hello, register, then the exchanges of `exchanges.NEXT` until the session ends.

It waits for the timers that `timers.RUNNING` has for the exchange and for whether the node is configured.

    session = NodeSession(state, duid=…, name=…, interface=…, associations=…, now=now)
    session.receive(data, now)                    # the shell owns the TLS connection
    writer.write(session.to_send(now))            # after every other call
    for event in session.events(): …              # Welcomed: call register; Assigned: apply it, and call applied
    wake_at = session.deadline()                  # then call tick

What the node holds lives in the NodeState, which the shell hands to one session after the other.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable

from dnms.events.configuration import Generation, Snapshot
from dnms.events.ip import family
from dnms.events.seen import AppliedItem
from dnms.wire import messages
from dnms.wire.asked import Asked
from dnms.wire.channel import Channel, Closed
from dnms.wire.errors import Code, PeerError
from dnms.wire.exchanges import NEXT, STRIPS, Exchange, On, following, may
from dnms.wire.frames import Frame, encode
from dnms.wire.messages import LOWEST_VERSION, VERSION, Association, Message, PrefixAssociation
from dnms.wire.node_events import Answered, Assigned, Extended, NodeEvent, Refused, Welcomed
from dnms.wire.node_state import NodeState
from dnms.wire.observing import Observing
from dnms.wire.timers import ASK_AGAIN, RUNNING


class NodeSession:
    """One connection to one agent. When it ends, `closed` is true and the last event is `Closed`."""

    def __init__(
        self,
        state: NodeState,
        *,
        duid: bytes,
        name: str,
        interface: str,
        associations: Iterable[Association],
        prefixes: Iterable[PrefixAssociation] = (),
        now: float,
    ) -> None:
        self.state = state
        self.exchange = following(Exchange.DISCOVERING, On.OFFER)
        self.welcome: messages.Welcome | None = None
        self.closed = False
        self._channel = Channel(now=now)
        self._associations = tuple(associations)
        self._events: list[NodeEvent] = []
        self._asked: Asked | None = None  # the request of this exchange
        self._ask_at = now  # when to ask again, idle and not settled
        self._confirm = False  # the link came back while something else went on
        self._asks = False  # whether the agent is there
        self._observing = Observing(self._channel, state)
        hello = messages.Hello(
            lowest=LOWEST_VERSION,
            highest=VERSION,
            duid=duid,
            name=name,
            interface=interface,
            prefixes=tuple(prefixes),
        )
        self._ask(hello, now)

    # What the shell calls.

    @property
    def dropped(self) -> Counter[str]:
        """What was ignored, by its word."""
        return self._channel.dropped

    def receive(self, data: bytes, now: float) -> None:
        """Take bytes from the agent."""
        if self.closed:
            return
        try:
            for frame in self._channel.receive(data, now):
                self._take(frame, now)
                if self.closed:
                    return
        except PeerError as error:
            self._fail(error)
        if self._asks and self._channel.answered:
            self._asks = False
            self._events.append(Answered())
        self._advance(now)

    def receive_end(self, now: float) -> None:
        """The agent's stream ended, or the connection broke."""
        self._close(Closed(self._channel.end()))

    def to_send(self, now: float) -> bytes:
        """The bytes to write to the agent, after `Closed` too."""
        return self._channel.to_send()

    def deadline(self) -> float | None:
        """When to call `tick`."""
        if self.closed:
            return None
        earliest = min(map(self._ends_at, self._running))
        return None if math.isinf(earliest) else earliest

    def tick(self, now: float) -> None:
        """Time passed."""
        if self.closed:
            return
        if not self._channel.tick(now):
            self._close(Closed(Code.DEAD_PEER), on=On.SILENCE)
            return
        if not self._observing.tick(now) or (self._asked is not None and not self._asked.tick(now)):
            self._end(Closed(Code.TIMEOUT, text=f"no answer while {self.exchange}"), on=On.NO_ANSWER)
            return
        self._advance(now)

    def events(self) -> list[NodeEvent]:
        """What happened since the last call."""
        events, self._events = self._events, []
        return events

    def register(self, snapshot: Snapshot, now: float) -> None:
        """After `Welcomed`: the whole configuration. ValueError if it is too large even without its routes."""
        if self.exchange is Exchange.REGISTERING and self._asked is None:
            frame_id, frames = self._observing.register(snapshot)
            self._asked = Asked(self._channel, frame_id, frames, now=now)

    def observe(self, snapshot: Snapshot, now: float, *, lasting: bool = False) -> None:
        """The configuration changed. While one is on its way only the newest of several is told, and `lasting` ones."""
        if not self.closed:
            self._observing.observe(snapshot, now, lasting=lasting)

    def applied(
        self,
        generation: Generation,
        items: Iterable[AppliedItem],
        now: float,
        *,
        unproven: bool = False,
        why: str = "",
    ) -> None:
        """The assignment is applied, with this outcome of each address. An older one's outcome is ignored.

        Duplicates are told with `declined` after this. While it is `unproven` it may still be rolled back; the outcome
        of that is told by another call. `why`: it was rolled back.
        """
        items = tuple(items)
        if self.state.assignment is None or self.state.assignment.generation != generation:
            self.dropped[Code.STALE] += 1
            return
        self.state.applied(items)
        if self.closed:
            return
        self._channel.send(messages.Applied(generation=generation, items=items, unproven=unproven, why=why))
        if self.exchange is Exchange.APPLYING:
            self._step(On.APPLIED)
            if self.state.assignment.addresses and not self.state.declining:
                self._ask_at = now + ASK_AGAIN  # matters if none of them is usable
        self._advance(now)

    def drifted(self, drifted: messages.Drifted) -> bool:
        """Somebody else changed what was assigned; False where the agent cannot be told now."""
        if self.closed or self.welcome is None or self.exchange is Exchange.REGISTERING:
            return False
        self._channel.send(drifted)
        return True

    def declined(self, addresses: Iterable[bytes], now: float) -> None:
        """These addresses are in use by another (DAD, RFC 4862, 5.4; ACD, RFC 5227): ask for others."""
        self.state.declined(addresses)
        if (self.exchange, On.DECLINED) in NEXT and self.state.declining:
            self._step(On.DECLINED)
            self._request(now)

    def ask(self) -> None:
        """Ask the agent whether it is there, which `Answered` tells: a change has to leave it reachable."""
        if not self.closed:
            self._asks = True
            self._channel.ask()

    def link_came_back(self, now: float) -> None:
        """The link was away, so this may be another one: confirm what is held (RFC 8415, 18.2.3), or ask now."""
        self._confirm = self.state.configured and not self.closed
        self._ask_at = min(self._ask_at, now)  # nothing could be applied while it was away
        self._advance(now)

    def release(self, now: float) -> None:
        """Give everything back and leave. The addresses must not be used from here on (RFC 8415, 18.2.7)."""
        bindings = self.state.bindings()
        if not (bindings or self.state.has_prefixes) or (self.exchange, On.RELEASE) not in NEXT:
            self._lose(Code.RELEASED)
            self.leave(now)
            return
        self._step(On.RELEASE)
        self._ask(messages.Release(bindings=bindings), now, tries=1)

    def leave(self, now: float) -> None:
        """End the session and keep what is held, for a restart."""
        self._end(Closed(Code.LEAVING))

    # Inside.

    def _take(self, frame: Frame, now: float) -> None:
        message = frame.message
        match message:
            case messages.Welcome():
                self._take_welcome(message, now)
            case messages.Registered():
                self._take_registered(frame.id, message, now)
            case messages.Assign():
                self._take_assign(frame.id, message, now)
            case messages.Extended():
                self._take_extended(frame.id, message, now)
            case messages.Error():
                self._take_error(frame.id, message, now)
            case messages.Bye():
                self._close(Closed(Code.BYE, said=message.why, go_to=message.go_to))
            case _:
                raise PeerError(Code.UNEXPECTED, f"{message.KIND} from an agent")

    def _take_welcome(self, welcome: messages.Welcome, now: float) -> None:
        self._step(On.WELCOME)
        if not LOWEST_VERSION <= welcome.version <= VERSION:
            raise PeerError(Code.VERSION, f"version {welcome.version} was not offered")
        self._asked = None
        self.welcome = welcome
        self._channel.greeted(ping_every=welcome.ping_every, now=now)
        self._events.append(Welcomed(welcome))

    def _take_registered(self, frame_id: int, registered: messages.Registered, now: float) -> None:
        if self._asked is None or frame_id != self._asked.id or self.exchange is not Exchange.REGISTERING:
            if not self._observing.registered(frame_id, registered.digest, now):
                self.dropped[Code.LATE] += 1
            return
        self._observing.confirm(registered.digest, now)
        self._asked = None
        if self._lacks:
            self._step(On.REGISTERED_LACKING)
            self._request(now)
        elif now >= self.state.rebind_at:
            self._step(On.REGISTERED_LATE)
            self._ask(
                messages.Rebind(
                    bindings=self.state.bindings(), wanted=self._wanted(), generation=self.state.generation(self._link)
                ),
                now,
            )
        else:
            self._step(On.REGISTERED_CONFIGURED)
            self._ask_confirm(now)

    def _take_assign(self, frame_id: int, assign: messages.Assign, now: float) -> None:
        then = following(self.exchange, On.ASSIGN)
        if then is Exchange.RELEASING:
            return
        began = self._began(frame_id, now)
        try:
            self.state.take(assign, link=self._link, began=began)
        except PeerError as error:
            if error.why is not Code.STALE:
                raise
            self.dropped[Code.STALE] += 1  # if it was an answer, the request is sent again
            return
        self.exchange = then
        self._asked = None
        self._confirm = False
        self._ask_at = now if assign.assignment.addresses else now + assign.renew_after
        self._events.append(Assigned(assign.assignment, began, assign.refused, assign.outage))

    def _take_extended(self, frame_id: int, extended: messages.Extended, now: float) -> None:
        then = following(self.exchange, On.EXTENDED)
        if then is Exchange.RELEASING:
            return
        began = self._began(frame_id, now)
        self.state.extend(extended, began=began)
        if then is Exchange.IDLE:
            self._asked = None
        self.exchange = then
        self._events.append(Extended(extended.preferred, extended.valid, began))

    def _take_error(self, frame_id: int, error: messages.Error, now: float) -> None:
        if self._asked is None or frame_id != self._asked.id:
            if frame_id == 0:
                self._close(_refusal(error))
            elif not self._observing.refused(frame_id, error, now):
                self.dropped[Code.LATE] += 1
            return
        if error.code == Code.NOT_ON_LINK and (self.exchange, On.NOT_ON_LINK) in NEXT:
            self._step(On.NOT_ON_LINK)
            self._request(now)
        elif error.code == Code.NO_BINDING and (self.exchange, On.NO_BINDING) in NEXT:
            self._step(On.NO_BINDING)
            self._request(now)
        elif (self.exchange, On.REFUSED) in NEXT:
            self._events.append(Refused(self.exchange, error.code, error.text))
            again = now + (error.retry_after or ASK_AGAIN)
            if self.exchange is Exchange.RENEWING:
                self.state.renew_at = again
            self._ask_at = again
            self._step(On.REFUSED)
            self._asked = None
        else:
            self._end(_refusal(error))

    def _advance(self, now: float) -> None:
        """Do what time or an earlier wish has made due."""
        if self.closed:
            return
        running = self._running
        self.state.tick(now)
        if self._drain_state() and On.EXPIRED in running:
            before = self.exchange
            self._step(On.EXPIRED)
            if self.exchange is not before:
                self._request(now)
            return
        due = {on for on in self._running if now >= self._ends_at(on)}
        if On.T2 in due:
            self._end(Closed(Code.REBIND, text="T2 passed: any agent will do"), on=On.T2)
        elif On.ASK_AGAIN in due:
            self._step(On.ASK_AGAIN)
            self._request(now)
        elif self._confirm and not self._lacks and may(self.exchange, On.LINK_UP, configured=self.state.configured):
            self._step(On.LINK_UP)
            self._ask_confirm(now)
        elif On.T1 in due:
            self._step(On.T1)
            self._ask(
                messages.Renew(
                    bindings=self.state.bindings(), wanted=self._wanted(), generation=self.state.generation(self._link)
                ),
                now,
            )

    @property
    def _running(self) -> tuple[On, ...]:
        return RUNNING[self.exchange, self.state.configured]

    def _ends_at(self, timer: On) -> float:
        at = math.inf  # where nothing is waited for, and of the search, which is over
        match timer:
            case On.NO_ANSWER:
                at = min(self._observing.deadline(), at if self._asked is None else self._asked.again_at)
            case On.SILENCE:
                at = self._channel.deadline()
            case On.EXPIRED:
                at = at if (ends := self.state.deadline()) is None else ends
            case On.T1 if not self._lacks:
                at = self.state.renew_at
            case On.T2:
                at = self.state.rebind_at
            case On.ASK_AGAIN if self._lacks:
                at = self._ask_at
        return at

    @property
    def _lacks(self) -> bool:
        """Whether there is something to ask for: it is not configured, or a duplicate is to be replaced."""
        return not self.state.configured or bool(self.state.declining)

    @property
    def _link(self) -> tuple[str, str]:
        assert self.welcome is not None
        return self.welcome.site, self.welcome.subnet

    def _began(self, frame_id: int, now: float) -> float:
        return self._asked.began if self._asked is not None and frame_id == self._asked.id else now

    def _wanted(self) -> tuple[Association, ...]:
        return tuple(self.state.hinted(each) for each in self._associations if not self.state.serves(each))

    def _request(self, now: float) -> None:
        declines = self.state.declines()
        if declines:
            declined = {(each.iaid, family(each.address)) for each in declines}
            wanted = tuple(each for each in self._wanted() if (each.iaid, each.family) not in declined)
            self._ask(messages.Decline(bindings=declines, wanted=wanted), now)
            return
        associations = tuple(self.state.hinted(each) for each in self._associations)
        generation = self.state.generation(self._link)
        self._ask(messages.RequestAddresses(associations=associations, generation=generation), now)

    def _ask_confirm(self, now: float) -> None:
        self._confirm = False
        generation = self.state.generation(self._link)
        self._ask(messages.Confirm(bindings=self.state.bindings(), wanted=self._wanted(), generation=generation), now)

    def _ask(self, message: Message, now: float, *, tries: int = 3) -> None:
        frame_id = self._channel.next_id()
        self._asked = Asked(self._channel, frame_id, encode(message, frame_id), now=now, tries=tries)

    def _step(self, on: On) -> None:
        self.exchange = following(self.exchange, on)
        if on in STRIPS:
            self._lose(STRIPS[on])

    def _lose(self, why: Code) -> None:
        self.state.lose(why)
        self._drain_state()

    def _drain_state(self) -> bool:
        events = self.state.events()
        self._events += events
        return bool(events)

    def _fail(self, error: PeerError) -> None:
        self.dropped[error.why] += 1
        self._channel.send(messages.Error(code=error.why, text=error.text[: messages.MAX_TEXT]))
        self._close(Closed(error.why, text=error.text))

    def _end(self, closed: Closed, *, on: On = On.ENDED) -> None:
        """Take leave of the agent."""
        if not self.closed:
            self._channel.send(messages.Bye(why=closed.why))
            self._close(closed, on=on)

    def _close(self, closed: Closed, *, on: On = On.ENDED) -> None:
        if not self.closed:
            self.closed = True
            self._step(on)
            self._asked = None
            self._events.append(closed)


def _refusal(error: messages.Error) -> Closed:
    return Closed(Code.REFUSED, said=error.code, text=error.text, retry_after=error.retry_after)
