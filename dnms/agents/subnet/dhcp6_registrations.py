"""Addresses that machines make themselves and tell the server of (RFC 9686): in the log as a part of what they are
configured with, and given to nobody else.

What is told again and again is written when it is new, when half of what the log has of its time is over, and when it
ends. Each agent of a link hears and writes it; the views make one of that. An agent that was started anew knows of an
address from when it is told again, within 4 hours, and ends none that it does not know of: the views say until when it
was valid.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict

import msgspec
import structlog

from dnms.agents.subnet.books import Books
from dnms.agents.subnet.dhcp6_clients import Who
from dnms.agents.subnet.newcomers import Newcomers
from dnms.bus.port import LostRace, Unanswered, Unavailable
from dnms.domain.aggregate import Refused
from dnms.domain.holding import owner_of
from dnms.domain.reserved import prefix_in
from dnms.events.configuration import Difference, InterfaceAddress
from dnms.events.ip import format_address
from dnms.events.requests import BlockAddress
from dnms.events.seen import ConfigurationChanged
from dnms.kit.clock import MICROSECONDS
from dnms.wire.dhcp6.associations import IaAddress
from dnms.wire.dhcp6.codes import INFINITE

ORIGIN = "registered"
"""Of an address that its machine has told of by DHCPv6."""

MAX_CLIENTS = 4_096
MAX_ADDRESSES = 16
"""Of one client: a stable and some temporary ones of each prefix. More would be a way to fill the log."""

LOOK = 30.0  # seconds between two looks for addresses that are over
NO_LINK = 0  # index of the interface: nobody tells which it is
_NOT_NOW = (LostRace, Unanswered, Unavailable)

_logger = structlog.get_logger(__name__)


class _Known(msgspec.Struct):
    """Instants are microseconds of the log's clock."""

    until: int  # by what its machine said last
    recorded: int  # by what the log has
    length: int  # of its prefix
    seen: int  # where the log has it


class Registrations:
    """Those that one agent has heard of."""

    def __init__(self, books: Books, newcomers: Newcomers) -> None:
        self._books = books
        self._newcomers = newcomers
        self._known: OrderedDict[bytes, dict[bytes, _Known]] = OrderedDict()

    async def take(self, who: Who, told: IaAddress) -> bool:
        """A client has this address; whether it is told that this is known. LogError."""
        books, address = self._books, told.address
        if owner_of(books.ledger, address) == who.client:
            _logger.debug("an address is registered that was given by DHCPv6", address=format_address(address))
            return False
        known = self._known.get(who.client, {}).get(address)
        if known is None and not self._affords(who):
            return False
        if not told.valid:
            await self._end(who.client, (address,))
            return True
        now = books.now()
        until = now + told.valid * MICROSECONDS
        if known is None or known.recorded - now < told.valid * MICROSECONDS // 2:
            length = self._length(address)
            seen = await books.observe(ConfigurationChanged(client=who.client, change=_has(told, length)))
            known = self._known.setdefault(who.client, {})[address] = _Known(until, until, length, seen)
        known.until = until
        self._known.move_to_end(who.client)
        if len(self._known) > MAX_CLIENTS:
            self._known.popitem(last=False)
        await self._keep_from_others(who.client, address, known.seen)
        return True

    async def run(self) -> None:
        """End what is over, until cancelled."""
        while True:
            await asyncio.sleep(LOOK)
            now = self._books.now()
            for client in tuple(self._known):
                known = self._known.get(client, {})  # others may have gone while the end of one was written
                over = tuple(address for address, each in known.items() if each.until <= now)
                try:
                    if over:
                        await self._end(client, over)
                except _NOT_NOW as error:
                    _logger.debug("the end of a registered address is not recorded yet", why=error.why)

    def _affords(self, who: Who) -> bool:
        """Whether one more address may be written: whoever is on the link can invent them."""
        if len(self._known.get(who.client, ())) >= MAX_ADDRESSES:
            return False
        return self._newcomers.leases_anywhere(who.peer, now=asyncio.get_running_loop().time())

    def _length(self, address: bytes) -> int:
        subnet = self._books.ledger.plan.subnet
        prefix = None if subnet is None else prefix_in(subnet, address)
        return 128 if prefix is None else prefix.length

    async def _end(self, client: bytes, addresses: tuple[bytes, ...]) -> None:
        """LogError."""
        known = self._known.get(client, {})
        gone = tuple(
            InterfaceAddress(
                interface=NO_LINK,
                address=address,
                prefix_length=known[address].length if address in known else self._length(address),
                origin=ORIGIN,
            )
            for address in addresses
        )
        await self._books.observe(ConfigurationChanged(client=client, change=Difference(addresses_gone=gone)))
        for address in addresses:
            known.pop(address, None)
        if not known:
            self._known.pop(client, None)

    async def _keep_from_others(self, client: bytes, address: bytes, seen: int) -> None:
        """LogError."""
        ledger = self._books.ledger
        if ledger.pool_of(address) is None:
            return
        if (owner := owner_of(ledger, address)) is not None:
            text = format_address(address)
            _logger.warning("another has an address that was given", address=text, by=client.hex(), to=owner.hex())
            return
        try:
            await self._books.decide(BlockAddress(client=client, address=address, cause=seen))
        except Refused as refusal:
            _logger.debug("not blocked", why=refusal.why, text=refusal.text)


def _has(told: IaAddress, length: int) -> Difference:
    address = InterfaceAddress(
        interface=NO_LINK,
        address=told.address,
        prefix_length=length,
        origin=ORIGIN,
        preferred=None if told.preferred == INFINITE else told.preferred,
        valid=None if told.valid == INFINITE else told.valid,
    )
    return Difference(addresses=(address,))
