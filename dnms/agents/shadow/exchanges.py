"""Pairs what clients of a link ask with what its server answers, and both with what DNMS would.

Theory of operation. Each message of a client is given to the unmodified servers of an agent, and what they would send
is kept. When the other server's answer to it is heard the two are compared; when none is in time, that is one too. Then
the shadow takes over what the client was told, whatever it would have said: so one difference is told once, and not
again by all that follows from it. What it is asked is asked one after the other, in the order of the link.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from itertools import chain

import msgspec

from dnms.agents.shadow import compare4, compare6
from dnms.agents.shadow.difference import Difference
from dnms.agents.shadow.link import ShadowLink, as_for_us4, as_for_us6, without_relays
from dnms.agents.subnet.books import Books
from dnms.agents.subnet.dhcp4_server import Dhcp4Server
from dnms.agents.subnet.dhcp6_server import Dhcp6Server
from dnms.domain.aggregate import Refused
from dnms.domain.identity import duid_of_hardware, identity_of
from dnms.events.ip import MAPPED, Prefix, family, format_address, is_link_local, parse_address, parse_prefix
from dnms.events.requests import ImportAddress, ImportPrefix, ReleaseAddress, ReleasePrefix
from dnms.kit.clock import MICROSECONDS
from dnms.linux.dhcp_heard import Datagram
from dnms.wire.dhcp4 import messages as messages4
from dnms.wire.dhcp4.codes import Kind as Kind4
from dnms.wire.dhcp4.codes import Op
from dnms.wire.dhcp4.messages import NOBODY
from dnms.wire.dhcp6 import messages as messages6
from dnms.wire.dhcp6.associations import IaNa, IaPd
from dnms.wire.dhcp6.codes import SERVER_PORT
from dnms.wire.dhcp6.codes import Kind as Kind6
from dnms.wire.dhcp6.identities import name_in
from dnms.wire.errors import PeerError

SILENCE = 3.0
"""Seconds after which a server that has not answered is silent."""

OFFER_LASTS = 60
"""Seconds for which what is offered is the client's; then it has it, or asks anew."""

MAX_PENDING = 4_096
"""Messages without an answer; more at once nobody can tell apart."""

ORIGIN = "shadow"

_ASKED_BY = {
    Kind4.OFFER: (Kind4.DISCOVER,),
    Kind4.ACK: (Kind4.REQUEST, Kind4.INFORM, Kind4.DISCOVER),
    Kind4.NAK: (Kind4.REQUEST,),
}
_GIVES = (Kind6.SOLICIT, Kind6.REQUEST, Kind6.RENEW, Kind6.REBIND)
_ANSWERED = (*_GIVES, Kind6.CONFIRM, Kind6.RELEASE, Kind6.DECLINE, Kind6.INFORMATION_REQUEST)

Key = tuple[int, bytes, bytes, int]
"""Family, client, transaction, and the kind of message."""


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """One difference."""

    time: datetime
    family: int
    client: str  # hardware address, or DUID
    message: str  # of the client
    what: str
    of: str
    there: str
    here: str


class Client(msgspec.Struct, frozen=True, kw_only=True):
    """Who asks."""

    client: bytes  # as the log names it
    duid: bytes
    hardware: bytes
    group: int
    shown: str


class Pending(msgspec.Struct, frozen=True, kw_only=True):
    """A message that the other server has not answered yet."""

    who: Client
    message: str
    is_new: bool
    peer: bytes
    iaids: tuple[int, ...]
    requested: tuple[int, ...]  # codes of options
    here: bytes | None  # what DNMS would say
    until: float


class Exchanges:
    """Those of one link."""

    def __init__(
        self,
        books: Books,
        link: ShadowLink,
        servers: tuple[Dhcp4Server, Dhcp6Server],
        *,
        interface: str,
        client_id: Callable[[bytes], bytes],
        report: Callable[[Found], None],
    ) -> None:
        """`client_id` names a DUID in the log; `report` takes each difference."""
        self.compared = 0
        """Answers of the other server, and silences."""
        self.equal = 0
        self.clients: set[str] = set()
        self.ignored: Counter[str] = Counter()
        """What was heard and not compared, by a stable word."""
        self._books = books
        self._link = link
        self._dhcp4, self._dhcp6 = servers
        self._interface = interface
        self._client_id = client_id
        self._report = report
        self._pending: dict[Key, Pending] = {}

    async def take(self, heard: Datagram) -> None:
        """Something was said on the link. LogError."""
        try:
            if family(heard.source) == 4:
                await self._take4(heard)
            else:
                await self._take6(heard)
        except PeerError as error:
            self.ignored[error.why] += 1

    def tick(self, now: float) -> None:
        """Who has not answered until now is silent."""
        for key, pending in [(key, each) for key, each in self._pending.items() if each.until <= now]:
            del self._pending[key]
            if pending.here is None:
                continue  # as DNMS
            silent = compare4.silent if key[0] == 4 else compare6.silent
            here = pending.here if key[0] == 4 else without_relays(pending.here)
            self._tell(key, pending, [silent(here)])

    # -- DHCPv4

    async def _take4(self, heard: Datagram) -> None:
        message = messages4.decode(heard.data)
        if message.op == Op.REPLY:
            await self._answered4(message, heard.data)
            return
        duid, iaid = identity_of(message.options.client_id, message.hardware)
        who = self._client(duid, message.hardware, message.options.host_name, message.hardware.hex(":"))
        key = (4, message.hardware, message.transaction, message.kind)
        is_new = self._is_new(who, 4, (iaid,))
        if key in self._pending or self._link.receive4 is None:
            self.ignored["repeated"] += 1
            return
        self._link.receive4(as_for_us4(heard.data))
        here = await self._said()
        if message.kind in (Kind4.DISCOVER, Kind4.REQUEST, Kind4.INFORM):
            name = Kind4(message.kind).name.lower()
            requested = message.options.requested
            self._wait(key, who, name, is_new=is_new, peer=heard.source, iaids=(iaid,), requested=requested, here=here)

    async def _answered4(self, message: messages4.Message, data: bytes) -> None:
        kinds = _ASKED_BY.get(Kind4(message.kind), ()) if message.kind in list(Kind4) else ()
        keys = [(4, message.hardware, message.transaction, int(kind)) for kind in kinds]
        key = next((each for each in keys if each in self._pending), None)
        if key is None:
            self.ignored["unasked"] += 1
            return
        pending = self._pending.pop(key)
        self._tell(
            key, pending, compare4.compare(data, pending.here, is_new=pending.is_new, requested=pending.requested)
        )
        lease = message.options.lease_time
        if message.yours != NOBODY and lease and message.kind != Kind4.NAK:
            valid = min(lease, OFFER_LASTS) if message.kind == Kind4.OFFER else lease
            await self._follow(pending.who, pending.iaids[0], {message.yours: valid})

    # -- DHCPv6

    async def _take6(self, heard: Datagram) -> None:
        inner = without_relays(heard.data)
        message = messages6.decode(inner).message
        options = message.options
        if message.kind in (Kind6.ADVERTISE, Kind6.REPLY):
            await self._answered6(message, inner)
            return
        if message.kind not in _ANSWERED or self._link.receive6 is None:
            self.ignored["kind"] += 1
            return
        relays = messages6.decode(heard.data).relays
        peer = relays[-1].peer if relays else heard.source
        if not relays:
            self._link.seen[heard.source] = heard.hardware
        hardware = b"" if relays else heard.hardware
        who = self._client(options.client_id, hardware, name_in(options.fqdn), options.client_id.hex(":"))
        key = (6, options.client_id or peer, message.transaction, message.kind)
        if key in self._pending:
            self.ignored["repeated"] += 1
            return
        iaids = tuple(each.iaid for each in options.na)
        is_new = self._is_new(who, 6, iaids) and not any(
            self._books.ledger.delegations.of(who.client, each.iaid) for each in options.pd
        )
        scope = f"%{self._interface}" if is_link_local(heard.source) else ""
        source = (f"{format_address(heard.source)}{scope}", SERVER_PORT, 0, 0)
        self._link.receive6(as_for_us6(heard.data), source, 0)
        here = await self._said()
        name = Kind6(message.kind).name.lower().replace("_", "-")
        self._wait(key, who, name, is_new=is_new, peer=peer, iaids=iaids, requested=options.requested, here=here)

    async def _answered6(self, message: messages6.Message, data: bytes) -> None:
        kinds = (Kind6.SOLICIT,) if message.kind == Kind6.ADVERTISE else _ANSWERED
        client = message.options.client_id
        found = [
            key
            for key in self._pending
            if key[0] == 6 and key[2] == message.transaction and key[3] in kinds and client in (key[1], b"")
        ]
        if not found:
            self.ignored["unasked"] += 1
            return
        key = found[0]
        pending = self._pending.pop(key)
        here = None if pending.here is None else without_relays(pending.here)
        gives = key[3] in _GIVES
        differences = compare6.compare(data, here, is_new=pending.is_new, gives=gives, requested=pending.requested)
        self._tell(key, pending, differences)
        if gives:
            most = OFFER_LASTS if message.kind == Kind6.ADVERTISE else 1 << 32
            await self._follow6(pending, message.options.na, message.options.pd, most)

    async def _follow6(self, pending: Pending, na: tuple[IaNa, ...], pd: tuple[IaPd, ...], most: int) -> None:
        for one in na:
            has = {parse_address(text): min(most, valid) for text, (_, valid) in compare6.given(one).items() if valid}
            await self._follow(pending.who, one.iaid, has)
        for each in pd:
            given = {parse_prefix(text): min(most, v) for text, (_, v) in compare6.given(each).items() if v}
            await self._follow_prefixes(pending, each.iaid, given)

    # -- what is

    async def _follow(self, who: Client, iaid: int, has: dict[bytes, int]) -> None:
        """The client has these addresses, each for so many seconds, and no others of their family. LogError."""
        kinds = {4 if address.startswith(MAPPED) else 6 for address in has} or {6}
        books = self._books
        for kind in kinds:
            for lease in books.ledger.leases_of(who.client, iaid, kind):
                if lease.address not in has:
                    with suppress(Refused):
                        await books.decide(ReleaseAddress(client=who.client, iaid=iaid, address=lease.address))
        for address, valid in has.items():
            until = books.now() + valid * MICROSECONDS
            with suppress(Refused):  # which is a difference that was told
                request = ImportAddress(
                    client=who.client, iaid=iaid, address=address, group=who.group, valid_until=until, origin=ORIGIN
                )
                await books.decide(request)

    async def _follow_prefixes(self, pending: Pending, iaid: int, has: dict[Prefix, int]) -> None:
        """As `_follow`. LogError."""
        books, client = self._books, pending.who.client
        for there in books.ledger.delegations.of(client, iaid):
            if there.prefix not in has:
                with suppress(Refused):
                    await books.decide(ReleasePrefix(client=client, iaid=iaid, prefix=there.prefix))
        for prefix, valid in has.items():
            request = ImportPrefix(
                client=client,
                iaid=iaid,
                prefix=prefix,
                group=pending.who.group,
                next_hop=pending.peer,
                valid_until=books.now() + valid * MICROSECONDS,
                origin=ORIGIN,
            )
            with suppress(Refused):
                await books.decide(request)

    def _client(self, duid: bytes, hardware: bytes, name: str, shown: str) -> Client:
        client = self._client_id(duid)
        group = self._books.group(client, name, duid=duid, hardware=(hardware,) if hardware else ())
        return Client(client=client, duid=duid, hardware=hardware, group=group, shown=shown)

    def _is_new(self, who: Client, kind: int, iaids: tuple[int, ...]) -> bool:
        """Whether the client has nothing here, and nothing is kept for it."""
        ledger = self._books.ledger
        names = (who.client, self._client_id(duid_of_hardware(who.hardware))) if who.hardware else (who.client,)
        return not any(
            chain(
                ((who.client, iaid, kind) in ledger.bindings for iaid in iaids),
                ((who.client, iaid, kind) in ledger.holds for iaid in iaids),
                (name in ledger.adopted.reserved for name in names),
            )
        )

    async def _said(self) -> bytes | None:
        """What the servers have made of what they were given; None: silence."""
        while self._dhcp4.is_answering or self._dhcp6.is_answering:  # noqa: ASYNC110  # of tasks that they made
            await asyncio.sleep(0.001)  # the log is in memory, and nobody on the link is asked
        said = self._link.said[-1] if self._link.said else None
        self._link.said.clear()
        return said

    def _wait(
        self,
        key: Key,
        who: Client,
        message: str,
        *,
        is_new: bool,
        peer: bytes,
        iaids: tuple[int, ...],
        requested: tuple[int, ...],
        here: bytes | None,
    ) -> None:
        if len(self._pending) >= MAX_PENDING:
            self.ignored["too-many"] += 1
            return
        until = asyncio.get_running_loop().time() + SILENCE
        self._pending[key] = Pending(
            who=who,
            message=message,
            is_new=is_new,
            peer=peer,
            iaids=iaids,
            requested=requested,
            here=here,
            until=until,
        )

    def _tell(self, key: Key, pending: Pending, differences: list[Difference]) -> None:
        self.compared += 1
        self.equal += not differences
        self.clients.add(pending.who.shown)
        for each in differences:
            self._report(
                Found(
                    time=datetime.now(UTC),
                    family=key[0],
                    client=pending.who.shown,
                    message=pending.message,
                    what=each.what,
                    of=each.of,
                    there=each.there,
                    here=each.here,
                )
            )
