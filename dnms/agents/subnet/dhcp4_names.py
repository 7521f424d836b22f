"""Who the DHCPv4 clients of a link are, in the log: a node each, with its hardware address and the name it says."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable

import msgspec
import structlog

from dnms.agents.subnet.books import Books
from dnms.agents.subnet.recording import Recording
from dnms.agents.subnet.same_machine import SameMachine
from dnms.bus.port import LostRace, Unanswered, Unavailable
from dnms.events.recorded import Personal
from dnms.events.requests import IdentifyNode
from dnms.wire.rates import Bucket

MAX_KNOWN = 4_096
"""Clients of which it is remembered that they are in the log as they say: of the others the log is asked."""

MAX_HARDWARE = 8
"""Hardware addresses of one client: a machine has a few, and whoever is on the link can say any."""

CHANGES, CHANGES_A_SECOND = 256.0, 1.0
"""Of who clients say to be: one machine on the link can say another name for any of them in every message."""

_logger = structlog.get_logger(__name__)


class Who(msgspec.Struct, frozen=True, kw_only=True):
    """A DHCPv4 client."""

    client: bytes
    iaid: int
    duid: bytes
    hardware: bytes
    name: str  # as it says it; empty: it says none
    group: int

    @property
    def binding(self) -> tuple[bytes, int, int]:
        """What its address is held for."""
        return self.client, self.iaid, 4


class Names:
    """Of one link."""

    def __init__(self, books: Books, client_id: Callable[[bytes], bytes]) -> None:
        """`client_id` names a DUID in the log."""
        self._books = books
        self._same_machine = SameMachine(books, client_id)
        self._known: OrderedDict[bytes, Who] = OrderedDict()
        self.recording = Recording()
        """Of what is to be recorded, while it runs."""
        self._changes = Bucket(burst=CHANGES, per_second=CHANGES_A_SECOND, now=asyncio.get_running_loop().time())

    def record(self, who: Who) -> None:
        """Have the log say soon who a client is, unless it does; what cannot be written is, when it asks again."""
        is_told = self._is_told(who) and self._known.get(who.client) == who
        if not is_told or self._same_machine.is_due(who.client, who.hardware):
            self.recording.add(who.client, lambda: self._record(who))

    async def _record(self, who: Who) -> None:
        try:
            await self._identify(who)
            await self._same_machine.join(who.client, who.hardware)
        except (LostRace, Unanswered, Unavailable) as error:
            _logger.debug("a DHCPv4 client is not recorded yet", why=error.why)

    def _is_told(self, who: Who) -> bool:
        here = self._books.node(who.client)
        return here is not None and here.identity is not None and not self._books.has_left(who.client)

    async def _identify(self, who: Who) -> None:
        """LogError."""
        is_told = self._is_told(who)
        known = await self._books.opened(who.client)
        identity = None if known is None else known.identity
        name, hardware = who.name, {who.hardware}
        if identity is not None:
            if identity.duid.value is None or identity.kernel:
                return  # its keys cannot be read now; or a Node Agent says all of it, and more
            told = {each.value for each in identity.hardware if isinstance(each.value, bytes)}
            hardware = told | hardware if len(told | hardware) <= MAX_HARDWARE else hardware
            name = name or (identity.name.value if isinstance(identity.name.value, str) else "")
        request = IdentifyNode(
            client=who.client,
            duid=Personal(who.duid),
            name=Personal(name),
            subnet=self._books.subnet,
            hardware=tuple(sorted(map(Personal, hardware), key=lambda each: each.payload)),
        )
        if is_told and identity is not None:
            is_new = (identity.name, identity.hardware) != (request.name, request.hardware)
            if is_new and not self._changes.take(asyncio.get_running_loop().time()):
                return
        await self._books.identify(request)
        self._known[who.client] = who
        self._known.move_to_end(who.client)
        if len(self._known) > MAX_KNOWN:
            self._known.popitem(last=False)
