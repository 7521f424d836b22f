"""A node that an operator entered by a hardware address is recognised by it when it comes, and has what is kept for it.

Anybody on the link can say to have any hardware address. So nothing but an operator's entry is believed of it, that is
used up by the first node that comes with it, and who comes with it after that is an ordinary node, and an alarm. Where
an operator parts the two, the entry waits for the next one, and the node that it was parted from is not taken for it.

A join has several steps: the entry is joined into the node, the node is entered as the entry says, and what this ledger
keeps for the entry it keeps for the node. Each that was done is found done, and a node asks often enough for all of
them. What other ledgers keep is moved there when the node comes there, or when an operator enters it again.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Final

import msgspec
import structlog

from dnms.agents.subnet.books import Books
from dnms.agents.subnet.reserving import Reserving
from dnms.agents.subnet.same_machine import SameMachine
from dnms.bus.port import Unavailable
from dnms.domain.aggregate import Refused
from dnms.domain.identity import duid_of_hardware, iaid_of, is_hardware
from dnms.domain.nodes import Node, as_entered
from dnms.events.configuration import Snapshot
from dnms.events.node import NodeEntered
from dnms.events.plan import Family
from dnms.events.recorded import Personal
from dnms.events.requests import CompleteNode, JoinAddresses, JoinNode
from dnms.events.seen import HardwareContested

MAX_CLAIMS: Final = 32
"""Hardware addresses of one node by which it may be recognised, in the order of its links: a machine has a few."""

_FAMILIES: Final[tuple[Family, ...]] = (6, 4)

_logger = structlog.get_logger(__name__)


class Claim(msgspec.Struct, frozen=True):
    """A hardware address that a node says to have."""

    entry: bytes  # client id under which a node is entered by this address
    hardware: Personal
    iaids: frozenset[int]  # of the interfaces that have it: a bridge has the one of its first port


def claims(snapshot: Snapshot, client_id: Callable[[bytes], bytes]) -> tuple[Claim, ...]:
    """The entries that a node may be, by what it registered."""
    names: dict[bytes, list[str]] = {}
    for link in snapshot.links:
        address = link.hardware.value if link.hardware is not None else None
        if isinstance(address, bytes) and is_hardware(address) and (address in names or len(names) < MAX_CLAIMS):
            names.setdefault(address, []).append(link.name)
    return tuple(
        Claim(client_id(duid_of_hardware(address)), Personal(address), frozenset(map(iaid_of, of)))
        for address, of in names.items()
    )


def _has(entered: NodeEntered, hardware: Personal) -> bool:
    """Whether a node was entered by this address. While that cannot be read, without the log, it is believed to be: the
    client of the entry is made of the address too.
    """
    return any(each == hardware or each.value is None for each in entered.hardware)


class Comer(msgspec.Struct, frozen=True):
    """A node that has a session."""

    client: bytes
    duid: bytes
    peer: bytes  # the address that it comes from


class Joining:
    """What one node is recognised by."""

    def __init__(
        self, books: Books, client_id: Callable[[bytes], bytes], alarm: Callable[[HardwareContested], Awaitable[None]]
    ) -> None:
        """`client_id`: what stands for a DUID in the log; `alarm` records an event once."""
        self._books = books
        self._client_id = client_id
        self._alarm = alarm
        self._reserving = Reserving(books, client_id)
        self._same_machine = SameMachine(books, client_id)
        self._claims: tuple[Claim, ...] = ()
        self.entries: frozenset[bytes] = frozenset()
        """The clients of the entries that the node may be."""

    def registered(self, snapshot: Snapshot) -> None:
        """The node has said which links it has."""
        self._claims = claims(snapshot, self._client_id)
        self.entries = frozenset(claim.entry for claim in self._claims)

    def told(self, hardware: Iterable[bytes], iaids: Iterable[int]) -> None:
        """The node, one without a Node Agent, has these hardware addresses, and asks for these associations."""
        of = frozenset(iaids)
        self._claims = tuple(
            Claim(self._client_id(duid_of_hardware(each)), Personal(each), of) for each in hardware if is_hardware(each)
        )
        self.entries = frozenset(claim.entry for claim in self._claims)

    async def reserve(self, client: bytes, iaids: Iterable[int]) -> None:
        """Have kept for a client, on these interfaces, what the plan has for its DUID or hardware. LogError."""
        reserved = self._books.ledger.adopted.reserved
        for iaid in iaids if reserved else ():
            entries = (each.entry for each in self._claims if iaid in each.iaids)
            names = tuple(each for each in (client, *entries) if each in reserved)
            for kind in _FAMILIES:
                await self._reserving.claim(names, client, iaid, kind)

    async def join(self, who: Comer, iaids: Iterable[int]) -> None:
        """Have a node that asks for addresses for the interfaces `iaids` be what was entered by their hardware.

        LogError. What cannot be is logged, and the node is an ordinary one.
        """
        for claim in self._claims:
            entry = self._books.node(claim.entry)
            if entry is None or entry.entered is None:
                continue  # as most are: nothing is opened for them
            entry = await self._books.opened(claim.entry)
            if entry is None or entry.entered is None or not _has(entry.entered, claim.hardware):
                continue
            if entry.entered.subnets and self._books.subnet not in entry.entered.subnets:
                continue  # nobody expects it here
            iaid = next((each for each in iaids if each in claim.iaids), None)
            if iaid is None or claim.entry == who.client or who.client in entry.parted:
                continue
            try:
                if entry.joined != who.client:
                    await self._take(claim, entry, who)
                await self._inherit(claim.entry, entry.entered, who, iaid)
            except Refused as refusal:
                _logger.warning("not joined", why=refusal.why, text=refusal.text)

    async def recognise(self, client: bytes) -> None:
        """Have a node that registered be what was known by its hardware addresses alone. LogError."""
        for claim in self._claims:
            if isinstance(address := claim.hardware.value, bytes):
                await self._same_machine.join(client, address)

    async def _take(self, claim: Claim, entry: Node, who: Comer) -> None:
        """Use the entry up. Refused if there is none any more, and with an alarm if it was another's; LogError."""
        try:
            if entry.joined or entry.identity is not None:  # and not asked again and again, as each refusal is recorded
                raise Refused("joined-otherwise", "another node was recognised by this hardware address")
            await self._books.tell(JoinNode(client=claim.entry, into=who.client, hardware=claim.hardware))
        except Refused as refusal:
            if refusal.why == "joined-otherwise":
                await self._alarm(HardwareContested(client=who.client, entered=claim.entry, contender=who.peer))
            raise
        _logger.info("a node that was entered has come", entry=claim.entry.hex(), client=who.client.hex())

    async def _inherit(self, entry: bytes, entered: NodeEntered, who: Comer, iaid: int) -> None:
        """Do what is not done yet of what follows from a join. Refused; LogError."""
        books = self._books
        known = books.node(who.client)
        if known is None or known.entered is None:
            if entered.name.value is None:
                raise Unavailable("the name with which the node was entered cannot be read now")
            await books.tell(as_entered(entered, who.client, Personal(who.duid), iaid))
        if any((entry, entered.iaid, kind) in books.ledger.holds for kind in (4, 6)):
            await books.decide(JoinAddresses(client=entry, iaid=entered.iaid, into=who.client, into_iaid=iaid))
        before, now = books.node(entry), books.node(who.client)
        if before is not None and before.ready and now is not None and not now.ready:
            await books.tell(CompleteNode(client=who.client))
