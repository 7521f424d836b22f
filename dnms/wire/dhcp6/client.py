"""A requesting router: asks for delegated prefixes and keeps them (RFC 8415, 18.2; RFC 6603, RFC 7083, RFC 9096).

Theory of operation. A client with nothing solicits, at a pace that never gets faster while nothing comes of it,
chooses one Advertise and requests; a server may also commit at once. Bound, it renews at T1 with the server that it
has and rebinds at T2 with any. A client that begins with prefixes that it had before, or whose link came back, rebinds:
no Confirm, which is for addresses. Where nobody answers that, what it has lives on until its time, and it goes on
asking. A server that knows of no binding is asked for one; what it does not speak of then is gone.

The caller owns the socket (from the link-local address, port 546, to `ff02::1:2` port 547), and keeps `held` and
`server` for the next start. One clock in seconds, that is never set, is meant by `now` and by all instants.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import msgspec

from dnms.events.ip import Prefix
from dnms.wire.dhcp6 import retransmission
from dnms.wire.dhcp6.associations import IaPd, IaPrefix, StatusOption
from dnms.wire.dhcp6.codes import Kind, Option, Status
from dnms.wire.dhcp6.exchanges import ASKS, NEXT, TO_ONE, Exchange, On
from dnms.wire.dhcp6.held import Held, is_sound, merged, offered, timers
from dnms.wire.dhcp6.messages import Message, decode, encode
from dnms.wire.dhcp6.options import Options
from dnms.wire.dhcp6.retransmission import Retransmission
from dnms.wire.discovery import Chance
from dnms.wire.errors import Code, PeerError

MAX_ADVERTISES = 16
"""Of one search; more servers than that are no honest link's."""

LEAST_SOL_MAX_RT, GREATEST_SOL_MAX_RT = 60, 86_400
"""Seconds between which a server may set the longest pause between two Solicits (RFC 8415, 21.24)."""

_REQUESTED = (int(Option.PD_EXCLUDE), int(Option.SOL_MAX_RT))
_MOST_PREFERRED = 255  # an Advertise with it is taken at once (RFC 8415, 18.2.1)


_EXPECTED: Mapping[Exchange, frozenset[int]] = {
    exchange: frozenset({Kind.ADVERTISE, Kind.REPLY} if kind is Kind.SOLICIT else {Kind.REPLY})
    for exchange, (kind, _) in ASKS.items()
}


class Delegated(msgspec.Struct, frozen=True):
    """A server has answered, and this is what the client has now."""

    held: tuple[Held, ...]


class Ended(msgspec.Struct, frozen=True):
    """It has something less, without an answer that gave it something else. `why`: expired, cut or released."""

    held: tuple[Held, ...]
    why: str


class Refused(msgspec.Struct, frozen=True):
    """A server gives nothing; the client goes on asking."""

    status: int
    text: str


Event = Delegated | Ended | Refused


class Client:
    """One association of prefixes (IA_PD) on one link."""

    def __init__(
        self,
        *,
        duid: bytes,
        iaid: int,
        chance: Chance,
        now: float,
        length: int = 0,
        held: tuple[Held, ...] = (),
        server: bytes = b"",
    ) -> None:
        """`length` is the hint, 0 for none; `held` is what it had when it ended, of which some may be over."""
        self.held = tuple(each for each in held if each.valid_until > now)
        self.server = server  # the DUID of the one that answered last
        self.exchange = Exchange.SOLICITING
        self._duid = duid
        self._iaid = iaid
        self._chance = chance
        self._length = length
        self._events: list[Event] = []
        self._transaction = bytes(3)
        self._sol_max_rt = retransmission.SOLICIT.mrt
        self._pace = 0.0  # the interval of Solicits that was reached
        self._advertises: list[tuple[Options, IaPd]] = []
        self._choose_at = math.inf
        self._wanted: tuple[IaPrefix, ...] = ()  # of the Advertise that was chosen
        self._doubted = False  # a server has said that it knows nothing of `held`
        self._t1 = self._t2 = math.inf
        self._sending: Retransmission | None = None
        if len(self.held) < len(held):
            self._events.append(Ended(self.held, "expired"))
        self._begin(Exchange.CONFIRMING if self.held else Exchange.SOLICITING, now)

    def receive(self, data: bytes, now: float) -> None:
        """Take a datagram from a server. PeerError for what is discarded (RFC 8415, 16): nothing has changed then."""
        self.tick(now)
        relayed = decode(data)
        message = relayed.message
        if relayed.relays:
            raise PeerError(Code.DIRECTION, "a message of a relay")
        if message.kind not in (Kind.ADVERTISE, Kind.REPLY):
            raise PeerError(Code.DIRECTION, f"a message of type {message.kind}")  # Reconfigure too: never accepted
        if message.kind not in _EXPECTED.get(self.exchange, ()) or message.transaction != self._transaction:
            raise PeerError(Code.LATE)
        options = message.options
        if options.client_id != self._duid:
            raise PeerError(Code.CLIENT_ID)
        if not options.server_id:
            raise PeerError(Code.SERVER_ID)
        if self.exchange is Exchange.SOLICITING and message.kind == Kind.REPLY and not options.rapid_commit:
            raise PeerError(Code.UNEXPECTED, "a Reply to a Solicit without Rapid Commit")
        self._heed_pace(options.sol_max_rt)
        if self.exchange is Exchange.RELEASING:
            self._enter(On.RELEASED, now)
        elif message.kind == Kind.ADVERTISE:
            self._take_advertise(options, now)
        else:
            self._take_reply(options, now)

    def to_send(self, now: float) -> list[bytes]:
        """The datagrams to multicast now."""
        self.tick(now)
        sending = self._sending
        if sending is None or now < sending.due:
            return []
        sending.send(now)
        if self.exchange is Exchange.SOLICITING:
            self._pace = sending.interval
        return [self._message(now)]

    def deadline(self) -> float:
        """When to call `to_send`; infinite when it has ended."""
        due = [self._sending.due] if self._sending is not None else []
        due += [self._t1] if self.exchange is Exchange.BOUND else []
        due += [self._t2] if self.exchange in (Exchange.BOUND, Exchange.RENEWING) else []
        return min([*due, self._choose_at, *(each.valid_until for each in self.held)])

    def tick(self, now: float) -> None:
        """Time passed."""
        self._expire(now)
        if self.exchange in (Exchange.BOUND, Exchange.RENEWING) and now >= self._t2:
            self._enter(On.T2, now)
        elif self.exchange is Exchange.BOUND and now >= self._t1:
            self._enter(On.T1, now)
        elif now >= self._choose_at:
            self._choose(now)
        elif self._sending is not None and self._sending.has_failed(now):
            self._next_server(On.NO_ANSWER, now)

    def events(self) -> list[Event]:
        """What happened since the last call."""
        events, self._events = self._events, []
        return events

    def link_came_back(self, now: float) -> None:
        """It may be another link: ask whether what is held is good there (RFC 8415, 18.2.12)."""
        self.tick(now)
        if self.exchange in (Exchange.RELEASING, Exchange.ENDED):
            return
        self._pace = 0.0
        if self.exchange is Exchange.SOLICITING:
            self._begin(Exchange.SOLICITING, now)
        elif self.exchange is Exchange.REQUESTING and self.held:
            self._begin(Exchange.CONFIRMING, now)
        else:
            self._enter(On.LINK, now)

    def release(self, now: float) -> None:
        """Give all back, and end. It is held no more from now on, whether the server hears of that or not."""
        self.tick(now)
        if self.exchange in (Exchange.RELEASING, Exchange.ENDED):
            return
        self._wanted = tuple(IaPrefix(prefix=each.prefix) for each in self.held)
        if self.held:
            self.held = ()
            self._events.append(Ended((), "released"))
        self._enter(On.RELEASE, now)

    # --- what comes

    def _take_advertise(self, options: Options, now: float) -> None:
        pd = self._association(options)
        if pd is None or not is_sound(pd) or not offered(pd):
            status = _status(options, pd)
            self._events.append(Refused(status.code, status.text))
            raise PeerError(Code.REFUSED, status.text)  # what it says of SOL_MAX_RT was heeded (RFC 8415, 18.2.9)
        if len(self._advertises) >= MAX_ADVERTISES:
            raise PeerError(Code.TOO_MANY)
        self._advertises.append((options, pd))
        began = now if self._sending is None else self._sending.began
        self._choose_at = now if options.preference == _MOST_PREFERRED else began + retransmission.SOLICIT.irt
        self.tick(now)

    def _choose(self, now: float) -> None:
        """Request of the server that is preferred, or offers the largest prefix; the others are kept, in that order."""
        self._advertises.sort(
            key=lambda each: (-(each[0].preference or 0), min(p.prefix.length for p in offered(each[1])))
        )
        options, pd = self._advertises.pop(0)
        self._choose_at = math.inf
        self.server = options.server_id
        self._wanted = offered(pd)
        if self.exchange is Exchange.SOLICITING:
            self._enter(On.ADVERTISE, now)
        else:
            self._begin(Exchange.REQUESTING, now)

    def _take_reply(self, options: Options, now: float) -> None:
        pd = self._association(options)
        status = _status(options, pd)
        if options.status is not None and options.status.code != Status.SUCCESS:
            # UnspecFail and UseMulticast, which it does already: it asks again when that is due (RFC 8415, 18.2.10).
            self._events.append(Refused(status.code, status.text))
            raise PeerError(Code.REFUSED, status.text)
        if pd is None or not is_sound(pd):
            raise PeerError(Code.MALFORMED, "a Reply without the association that it answers")
        if self.exchange is Exchange.SOLICITING and not offered(pd):
            self._events.append(Refused(status.code, status.text))
            raise PeerError(Code.REFUSED, status.text)
        is_unknown = status.code == Status.NO_BINDING and not offered(pd)
        if is_unknown and (self.exchange, On.NO_BINDING) in NEXT:
            self.server = options.server_id
            self._doubted = True
            self._wanted = tuple(IaPrefix(prefix=each.prefix) for each in self.held)
            self._enter(On.NO_BINDING, now)
            return
        before = () if self._doubted and offered(pd) else self.held
        held = merged(before, pd, now)
        if held and offered(pd):
            self._bind(held, pd, options.server_id, now)
        elif status.code != Status.SUCCESS:
            self._events.append(Refused(status.code, status.text))
            if self.exchange is not Exchange.REQUESTING:
                raise PeerError(Code.REFUSED, status.text)
            self._next_server(On.REFUSED, now)
        elif held != self.held or not held:
            self._lose(held, now)
        else:
            raise PeerError(Code.UNEXPECTED, "a Reply that speaks of nothing that is held")

    def _bind(self, held: tuple[Held, ...], pd: IaPd, server: bytes, now: float) -> None:
        t1, t2 = timers(pd)
        self.held, self.server = held, server
        self._t1, self._t2 = now + t1, now + t2
        self._doubted = False
        self._pace = 0.0
        self._events.append(Delegated(held))
        self._enter(On.BOUND, now)

    def _lose(self, held: tuple[Held, ...], now: float) -> None:
        """The server has ended some, and gave nothing instead."""
        if held != self.held:
            self.held = held
            self._events.append(Ended(held, "cut"))
        if held:
            return  # it is asked again when that is due, about the rest
        self._next_server(On.NOTHING, now)

    def _next_server(self, on: On, now: float) -> None:
        """This one gives nothing: ask the next that has offered something, or look for others."""
        if self.exchange is Exchange.REQUESTING and self._advertises:
            self._choose(now)
        else:
            self._enter(on, now)

    def _expire(self, now: float) -> None:
        held = tuple(each for each in self.held if each.valid_until > now)
        if len(held) == len(self.held):
            return
        self.held = held
        self._events.append(Ended(held, "expired"))
        if not held and self.exchange not in (Exchange.SOLICITING, Exchange.REQUESTING):
            self._enter(On.NOTHING, now)

    def _heed_pace(self, seconds: int | None) -> None:
        if seconds is not None and LEAST_SOL_MAX_RT <= seconds <= GREATEST_SOL_MAX_RT:
            self._sol_max_rt = float(seconds)
            if self.exchange is Exchange.SOLICITING and self._sending is not None:
                self._sending.slow_down(self._sol_max_rt)

    def _association(self, options: Options) -> IaPd | None:
        return next((each for each in options.pd if each.iaid == self._iaid), None)

    # --- what is sent

    def _enter(self, on: On, now: float) -> None:
        self._begin(NEXT[self.exchange, on], now)

    def _begin(self, exchange: Exchange, now: float) -> None:
        soliciting = exchange is Exchange.SOLICITING
        self.exchange = exchange
        self._sending = None
        if soliciting or exchange is Exchange.CONFIRMING:
            self._advertises.clear()
            self._choose_at = math.inf
        if exchange not in ASKS:
            return
        _, timing = ASKS[exchange]
        at, interval = now, 0.0
        if soliciting:
            timing = msgspec.structs.replace(timing, mrt=self._sol_max_rt)
            interval = self._pace  # nothing came of the last search: no faster than that was
        if interval:
            at += interval
        elif soliciting or exchange is Exchange.CONFIRMING:
            at += self._chance.uniform(0.0, retransmission.SOL_MAX_DELAY)
        self._transaction = self._chance.randbytes(3)
        self._sending = Retransmission(timing, self._chance, at=at, interval=interval, waits_longer=soliciting)

    def _message(self, now: float) -> bytes:
        kind, _ = ASKS[self.exchange]
        options = Options(
            client_id=self._duid,
            server_id=self.server if kind in TO_ONE else b"",
            pd=(IaPd(iaid=self._iaid, prefixes=self._spoken_of()),),
            requested=() if kind is Kind.RELEASE else _REQUESTED,
            elapsed=self._sending.elapsed(now) if self._sending is not None else 0,
            rapid_commit=kind is Kind.SOLICIT,
        )
        return encode(Message(int(kind), self._transaction, options))

    def _spoken_of(self) -> tuple[IaPrefix, ...]:
        """What it has, what it was offered, or the length that it would like (RFC 8415, 18.2.1)."""
        match self.exchange:
            case Exchange.REQUESTING | Exchange.RELEASING:
                return tuple(IaPrefix(prefix=each.prefix) for each in self._wanted)
            case Exchange.SOLICITING if not self.held:
                return (IaPrefix(prefix=Prefix(bytes(16), self._length)),) if self._length else ()
        return tuple(IaPrefix(prefix=each.prefix) for each in self.held)


def _status(options: Options, pd: IaPd | None) -> StatusOption:
    """How it went, by the narrowest that says that it did not go."""
    inner = () if pd is None else (pd.status, *(each.status for each in pd.prefixes))
    bad = (each for each in (options.status, *inner) if each is not None and each.code != Status.SUCCESS)
    absent = StatusOption(int(Status.SUCCESS))
    if pd is None:
        absent = StatusOption(int(Status.NO_PREFIX_AVAIL), "no prefix was offered")
    return next(bad, absent)
