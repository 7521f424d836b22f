"""Who the clients of a DHCPv6 server are: in the log as nodes, by what their messages say of them.

A client is its DUID. Its name is what it calls itself (RFC 4704), its hardware addresses are that in its DUID and the
one that its relay (RFC 6939) or the link has seen. Anybody can say so, as in a session. A machine that an operator
entered before it came, by its DUID or by a hardware address, or for which one reserved an address, has what is kept for
that; under which IAID it asks nobody could know before.
What is said in the name of a node with a Node Agent is not heard: DHCPv6 proves nothing, so whoever has heard of its
DUID could have its prefix routed elsewhere, or give its addresses back.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable
from typing import Final

import msgspec
import structlog

from dnms.agents.subnet.books import Books
from dnms.agents.subnet.joining import Comer, Joining
from dnms.agents.subnet.newcomers import NEW_A_SECOND, Newcomers
from dnms.agents.subnet.recording import Recording
from dnms.agents.subnet.same_machine import SameMachine
from dnms.bus.port import LostRace, Unanswered, Unavailable
from dnms.domain.aggregate import Refused
from dnms.domain.identity import INTERFACE, duid_of_hardware, iaid_of
from dnms.events.recorded import Personal
from dnms.events.requests import IdentifyNode, JoinAddresses
from dnms.events.seen import HardwareContested
from dnms.wire.dhcp6.identities import hardware_in
from dnms.wire.dhcp6.server import Question
from dnms.wire.rates import Buckets

CHANGES_AT_ONCE = 4  # of what the clients at one address say that they are; then one a minute
MAX_RECORDED = 4_096  # clients of which it is remembered that the log has what they say

_MEANT: Final = iaid_of(INTERFACE)

_logger = structlog.get_logger(__name__)


class Who(msgspec.Struct, frozen=True, kw_only=True):
    """The client of one message."""

    client: bytes  # as the log names it
    duid: bytes
    peer: bytes  # its link-local address
    name: str
    hardware: tuple[bytes, ...]
    seen: bytes = b""  # of these the one that the link or a relay has seen; empty: neither has


class Clients:
    """Those of one agent."""

    def __init__(
        self,
        books: Books,
        *,
        client_id: Callable[[bytes], bytes],
        newcomers: Newcomers,
        alarm: Callable[[HardwareContested], Awaitable[None]],
    ) -> None:
        """`client_id` names a DUID in the log; `alarm` records an event once."""
        self._books = books
        self._client_id = client_id
        self._newcomers = newcomers
        self._alarm = alarm
        self._same_machine = SameMachine(books, client_id)
        self._changes = Buckets(burst=CHANGES_AT_ONCE, per_second=NEW_A_SECOND, most=MAX_RECORDED)
        self._recorded: OrderedDict[bytes, Who] = OrderedDict()
        self.recording = Recording()
        """Of what is to be recorded, while it runs."""

    def has_agent(self, duid: bytes, has_session: Callable[[bytes], bool]) -> bool:
        """Whether a node of this DUID has a session here, or has had one anywhere."""
        client = self._client_id(duid)
        return has_session(client) or self._books.has_agent(client)

    async def meet(self, asked: Question, peer: bytes, hardware: bytes) -> Who:
        """Who asks; `hardware` is what the link or its relay has seen of it. One without a name has that of before."""
        who = self.met(asked, peer, hardware)
        return who or self._who(asked, peer, hardware, await self._name(self._client_id(asked.client)))

    def met(self, asked: Question, peer: bytes, hardware: bytes) -> Who | None:
        """As `meet`; None if its name has to be looked up."""
        if not asked.client:  # of an Information-request, which needs none
            return Who(client=bytes(16), duid=b"", peer=peer, name=asked.name, hardware=())
        who = self._who(asked, peer, hardware, asked.name)
        if who.name:
            return who
        if (recorded := self._recorded.get(who.client)) is not None:
            return msgspec.structs.replace(who, name=recorded.name) if recorded.name else who
        return who if self._books.node(who.client) is None else None

    def _who(self, asked: Question, peer: bytes, hardware: bytes, name: str) -> Who:
        found = {hardware_in(asked.client), hardware} - {b""}
        return Who(
            client=self._client_id(asked.client),
            duid=asked.client,
            peer=peer,
            name=name,
            hardware=tuple(sorted(found)),
            seen=hardware,
        )

    def group(self, who: Who) -> int:
        """The number of the group that it is in."""
        return self._books.group(who.client, who.name, duid=who.duid, hardware=who.hardware)

    def is_expected(self, who: Who) -> bool:
        """Whether something may be kept for it that it is yet to be recognised by, or its node is to be another one."""
        holds = self._books.ledger.holds
        if holds and (who.client, _MEANT, 6) in holds:
            return True
        known = (self._books.node(each) for each in (who.client, *self._entries(who)))
        return any(each is not None and each.entered is not None for each in known)

    def _entries(self, who: Who) -> tuple[bytes, ...]:
        """The clients under which an operator enters its hardware addresses."""
        return tuple(self._client_id(duid_of_hardware(each)) for each in who.hardware)

    async def join(self, who: Who, iaids: Iterable[int]) -> None:
        """Have it be what an operator entered, where it asks for addresses for these associations. LogError."""
        wanted = sorted(iaids)
        if not wanted:
            return
        joining = Joining(self._books, self._client_id, self._alarm)
        joining.told(who.hardware, wanted)
        await joining.join(Comer(who.client, who.duid, who.peer), wanted)
        known = self._books.node(who.client)
        entered = known.entered if known is not None else None
        for iaid in {_MEANT} | ({entered.iaid} if entered is not None else set()):
            await self._take(who.client, iaid, wanted)

    async def _take(self, client: bytes, meant: int, wanted: list[int]) -> None:
        """Have what is kept for a client on the interface that was meant be kept for what it asks for. LogError."""
        ledger = self._books.ledger
        binding = (client, meant, 6)
        into = next((each for each in wanted if (client, each, 6) not in ledger.holds), None)
        if meant in wanted or into is None or binding not in ledger.holds or binding in ledger.bindings:
            return
        if all(address in ledger.planned for address in ledger.holds[binding]):
            return
        try:
            await self._books.decide(JoinAddresses(client=client, iaid=meant, into=client, into_iaid=into))
        except Refused as refusal:
            _logger.warning("not given what is kept for it", why=refusal.why, text=refusal.text)

    def record(self, who: Who) -> None:
        """Have the log say soon who it is and that it is here; what cannot be written is, when it asks again."""
        books, known = self._books, self._books.node(who.client)
        identity = known.identity if known is not None else None
        is_here = known is not None and known.subnet == books.subnet
        if is_here and identity is not None and self._is_recorded(who):
            if self._same_machine.is_due(who.client, who.seen):
                self.recording.add(who.client, lambda: self._join_others(who))
            return
        now = asyncio.get_running_loop().time()
        if identity is None:
            is_afforded = self._newcomers.admits(who.peer, who.client, now=now)
        else:
            is_afforded = self._changes.take(who.peer, now)
        if not is_afforded:
            return
        request = IdentifyNode(
            client=who.client,
            duid=Personal(who.duid),
            name=Personal(who.name),
            subnet=books.subnet,
            hardware=tuple(Personal(each) for each in who.hardware),
        )
        self.recording.add(who.client, lambda: self._identify(who, request))

    async def _identify(self, who: Who, request: IdentifyNode) -> None:
        try:
            if self._books.outage.active:
                self._books.identify_later(request)
            else:
                await self._books.identify(request)
        except (LostRace, Unanswered, Unavailable) as error:
            _logger.debug("a DHCPv6 client is not recorded yet", why=error.why)
            return
        self._remember(who)
        await self._join_others(who)

    async def _join_others(self, who: Who) -> None:
        try:
            await self._same_machine.join(who.client, who.seen)
        except (LostRace, Unanswered, Unavailable) as error:
            _logger.debug("what is known by a hardware address alone is not joined yet", why=error.why)

    def _is_recorded(self, who: Who) -> bool:
        recorded = self._recorded.get(who.client)
        return recorded is not None and (recorded.name, recorded.hardware) == (who.name, who.hardware)

    def _remember(self, who: Who) -> None:
        self._recorded[who.client] = who
        self._recorded.move_to_end(who.client)
        if len(self._recorded) > MAX_RECORDED:
            self._recorded.popitem(last=False)

    async def _name(self, client: bytes) -> str:
        """What it called itself before; empty if it never did."""
        known = await self._books.opened(client)
        name = known.identity.name.value if known is not None and known.identity is not None else ""
        return name if isinstance(name, str) else ""
