"""Has DHCPv6 clients that accept it ask again as soon as they are due something else (RFC 8415, 18.3.11).

Theory of operation. Of each client that accepts it is kept, in memory, what it was told last, on which way, and as what
it will ask when it renews. When the ledger or the plan says something that may concern it, what it would be told is
worked out, of a draft that is thrown away; where that is something else, or ends sooner, it is sent a Reconfigure until
it asks or has heard it often enough. An agent that was started anew knows a client from when that asks.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable

import msgspec
import structlog

from dnms.agents.subnet.books import Books
from dnms.agents.subnet.dhcp6_clients import Who
from dnms.agents.subnet.dhcp6_heard import Heard
from dnms.linux.errors import KernelError
from dnms.linux.multicast import Peer
from dnms.wire.dhcp6.codes import Kind
from dnms.wire.dhcp6.messages import Relay, wrapped
from dnms.wire.dhcp6.reconfigure import FIRST_AGAIN, MOST, announced, key_of, reconfigure
from dnms.wire.dhcp6.server import Answer, Question, Told, Wanted, WantedAddresses

MAX_KNOWN = 4_096
"""Clients that are kept in mind; of more, those that asked longest ago hear of a change when they renew."""

SETTLES = 0.5  # seconds in which what follows from an event is in the ledger too
A_SECOND = 200.0  # clients that are told at most: each of them asks then
SOONER = 5  # seconds by which something has to end sooner than a client was told

Send = Callable[[bytes, tuple[Relay, ...], Peer], None]
Foresee = Callable[[Question, Who], Answer | None]

_logger = structlog.get_logger(__name__)


class _Has(msgspec.Struct, frozen=True):
    """What a client was told, as far as something else would be news: until when it is preferred, by what it is."""

    until: dict[tuple[int, object], float]
    told: Told


class _Client(msgspec.Struct, frozen=True, kw_only=True):
    who: Who
    renewal: Question
    has: _Has
    relays: tuple[Relay, ...]
    sender: Peer


class Reconfiguring:
    """The clients of one server."""

    def __init__(self, books: Books, *, server: bytes, foresee: Foresee) -> None:
        """`server` is its DUID, `foresee` says what a client would be told now."""
        self._books = books
        self._server = server
        self._foresee = foresee
        self._known: OrderedDict[bytes, _Client] = OrderedDict()
        self._due: set[bytes] | None = set()  # None: all
        self._is_due = asyncio.Event()
        self._telling: dict[bytes, asyncio.Task[None]] = {}
        self._counter = 0

    def authentication(self, client: bytes) -> bytes:
        """The option by which a client of this DUID is told its key."""
        return announced(self._key(client), counter=self._next())

    def answered(self, message: Heard, who: Who, answered: Answer, sender: Peer) -> None:
        """A client has been told this; `sender` is where its message came from."""
        asked = message.asked
        if asked.kind in (Kind.CONFIRM, Kind.DECLINE) or not asked.commits or not who.duid:
            return  # which brings it nothing new
        self._end(who.client)
        if not asked.accepts_reconfigure:  # as most
            self._known.pop(who.client, None)
            return
        has = _has(answered, asyncio.get_running_loop().time())
        is_stateless = asked.kind is Kind.INFORMATION_REQUEST
        if asked.kind is Kind.RELEASE or not (has.until or is_stateless):
            self._known.pop(who.client, None)
        else:
            renewal = _renewal(asked, answered)
            client = _Client(who=who, renewal=renewal, has=has, relays=message.relays, sender=sender)
            self._known[who.client] = client
            self._known.move_to_end(who.client)
            if len(self._known) > MAX_KNOWN:
                self._known.popitem(last=False)

    async def run(self, send: Send) -> None:
        """Until cancelled."""
        self._books.touching.append(self._touch)
        try:
            async with asyncio.TaskGroup() as tasks:
                while True:
                    await self._is_due.wait()
                    await asyncio.sleep(SETTLES)
                    for client in self._take_due():
                        if client in self._telling or (known := self._known.get(client)) is None:
                            continue
                        if self._is_news(known):
                            self._telling[client] = tasks.create_task(self._tell(known, send))
                            await asyncio.sleep(1 / A_SECOND)
                        else:
                            await asyncio.sleep(0)
        finally:
            self._books.touching.remove(self._touch)

    def _touch(self, client: bytes | None) -> None:
        if client is None:
            self._due = None
        elif self._due is not None and client in self._known:
            self._due.add(client)
        if self._due is None or self._due:
            self._is_due.set()

    def _take_due(self) -> tuple[bytes, ...]:
        due = tuple(self._known) if self._due is None else tuple(self._due)
        self._due = set()
        self._is_due.clear()
        return due

    def _is_news(self, known: _Client) -> bool:
        if self._books.outage.active:
            return False  # a renewal would bring nothing new
        now = asyncio.get_running_loop().time()
        if known.has.until and max(known.has.until.values()) <= now:
            del self._known[known.who.client]  # it has gone
            return False
        answer = self._foresee(known.renewal, known.who)
        if answer is None:
            return False
        would = _has(answer, now)
        return (
            would.told != known.has.told
            or would.until.keys() != {key for key, until in known.has.until.items() if until > now}
            or any(until + SOONER < known.has.until[key] for key, until in would.until.items())
        )

    async def _tell(self, known: _Client, send: Send) -> None:
        """Until it asks, or was told often enough."""
        stateless = known.renewal.kind is Kind.INFORMATION_REQUEST
        kind = Kind.INFORMATION_REQUEST if stateless else Kind.RENEW
        again = FIRST_AGAIN
        _logger.debug("a DHCPv6 client is to ask again", client=known.who.client.hex())
        for _ in range(MOST):
            duid = known.who.duid
            data = reconfigure(kind, server=self._server, client=duid, key=self._key(duid), counter=self._next())
            try:
                send(wrapped(data, known.relays), known.relays, known.sender)
            except KernelError as error:
                _logger.warning("a DHCPv6 client cannot be told to ask again", reason=str(error))
            await asyncio.sleep(again)
            again *= 2
        self._telling.pop(known.who.client, None)

    def _end(self, client: bytes) -> None:
        """It has asked."""
        if (task := self._telling.pop(client, None)) is not None:
            task.cancel()

    def _key(self, client: bytes) -> bytes:
        return key_of(self._books.ledger.secret, server=self._server, client=client)

    def _next(self) -> int:
        """Greater than any before, that of this agent's former self too (RFC 8415, 20.3)."""
        self._counter = max(self._counter + 1, self._books.now())
        return self._counter


def _renewal(asked: Question, answered: Answer) -> Question:
    """As what a client will ask that was told this."""
    if asked.kind is Kind.INFORMATION_REQUEST:
        return asked
    addresses = tuple(
        WantedAddresses(iaid=each.iaid, addresses=tuple(a.address for a in each.addresses if a.valid))
        for each in answered.addresses
    )
    lengths = {each.iaid: each.length for each in asked.wanted}
    wanted = tuple(
        Wanted(
            iaid=each.iaid, prefixes=tuple(p.prefix for p in each.prefixes if p.valid), length=lengths.get(each.iaid, 0)
        )
        for each in answered.prefixes
    )
    return msgspec.structs.replace(asked, kind=Kind.RENEW, rapid_commit=False, addresses=addresses, wanted=wanted)


def _has(answered: Answer, now: float) -> _Has:
    until: dict[tuple[int, object], float] = {}
    for addresses in answered.addresses:
        until |= {(addresses.iaid, a.address): now + a.preferred for a in addresses.addresses if a.preferred}
    for prefixes in answered.prefixes:
        until |= {(prefixes.iaid, p.prefix): now + p.preferred for p in prefixes.prefixes if p.preferred}
    return _Has(until, answered.told)
