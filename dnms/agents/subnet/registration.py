"""Who the node at the other end of a session is and what its kernel has: in the log, at once or when that is back."""

from __future__ import annotations

import asyncio

from dnms.agents.subnet.books import Books
from dnms.agents.subnet.budget import Budget
from dnms.agents.subnet.claims import Claims, block
from dnms.agents.subnet.joining import Comer, Joining
from dnms.agents.subnet.observations import Observations
from dnms.bus.port import Unanswered
from dnms.events.configuration import Snapshot
from dnms.events.recorded import Event, Personal
from dnms.events.requests import IdentifyNode
from dnms.events.seen import SessionClosed, SessionOpened
from dnms.wire import agent_events as heard


class Registration:
    """Of one node, in one session."""

    def __init__(
        self,
        books: Books,
        observations: Observations,
        *,
        peer: bytes,
        relay: str,
        joining: Joining,
        claims: Claims | None,
        budget: Budget,
    ) -> None:
        """`claims` looks into what it says that it has of others; None: that is let be."""
        self.client = b""
        self.duid = b""
        self.name = ""
        self.peer = peer
        self._relay = relay
        self._books = books
        self._observations = observations
        self._joining = joining
        self._claims = claims
        self._budget = budget
        self._hardware: tuple[bytes, ...] = ()  # of what it registered
        self._opened = False
        self._unrecorded: heard.Registered | None = None  # the log was away when it came

    @property
    def group(self) -> int:
        """The number of the group that it is in."""
        return self._books.group(self.client, self.name, duid=self.duid, hardware=self._hardware)

    @property
    def is_owed(self) -> bool:
        """Whether something of it is still to be recorded."""
        return self._unrecorded is not None

    async def register(self, event: heard.Registered) -> None:
        """Record who it is, that it has a session, and what it has. LogError."""
        identify = self._identification(event)
        seen = [] if self._opened else [self._opening()]
        identified, observed = await asyncio.gather(
            self._books.identify(identify), self._record(event, *seen), return_exceptions=True
        )
        # What was not acknowledged may be in the log.
        self._opened = self._opened or observed is None or isinstance(observed, int | Unanswered)
        for outcome in (identified, observed):
            if isinstance(outcome, BaseException):
                raise outcome
        if isinstance(observed, int):
            await self._block(event.snapshot, observed)

    def register_later(self, event: heard.Registered) -> None:
        """Take the node in, and record it when the log is back. Unavailable if too many came."""
        self._books.identify_later(self._identification(event))
        self._books.note(self._opening())  # once more, if it is there perhaps
        self._observations.forget(self.client)
        self._opened, self._unrecorded = True, event
        self._books.owe(self.client)

    async def catch_up(self) -> None:
        """Record what came while the log was away. LogError."""
        if (event := self._unrecorded) is not None:
            await self._record(event)
            if self._unrecorded is event:
                self._unrecorded = None

    async def observe(self, event: heard.Observed) -> None:
        """Record what it has now. LogError."""
        if (seen := await self._record(event)) is not None:
            await self._block(event.snapshot, seen)

    def leave(self, why: str) -> None:
        """The session has ended; only the first word is recorded."""
        if self._opened:
            self._opened = False
            self._books.note(SessionClosed(client=self.client, why=why))

    async def join(self, iaids: list[int]) -> None:
        """Have it be what was entered by its hardware, where it asks for addresses for these interfaces, and have what
        the plan reserves for that. LogError.
        """
        await self._joining.reserve(self.client, iaids)
        await self._joining.join(Comer(self.client, self.duid, self.peer), iaids)
        await self._joining.recognise(self.client)

    @property
    def entries(self) -> frozenset[bytes]:
        """The clients of the entries that it may be."""
        return self._joining.entries

    def _opening(self) -> SessionOpened:
        return SessionOpened(client=self.client, peer=self.peer, relay=self._relay)

    def _identification(self, event: heard.Registered) -> IdentifyNode:
        self._joining.registered(event.snapshot)
        hardware = {link.hardware for link in event.snapshot.links if link.hardware is not None}
        self._hardware = tuple(value for each in hardware if isinstance(value := each.value, bytes))
        return IdentifyNode(
            client=self.client,
            duid=Personal(self.duid),
            name=Personal(self.name),
            subnet=self._books.subnet,
            hardware=tuple(sorted(hardware, key=lambda each: each.payload)),
            kernel=event.snapshot.kernel,
        )

    async def _record(self, event: heard.Registered | heard.Observed, *beside: Event) -> int | None:
        """Record these events and what is new in a configuration; the sequence of their commit. LogError."""
        news = self._observations.news(self.client, event.snapshot, digest=event.digest, follows=event.follows)
        if not (events := (*beside, *news)):
            return None
        try:
            return await self._books.observe(*events)
        except BaseException:
            self._observations.forget(self.client)
            raise

    async def _block(self, snapshot: Snapshot, seen: int) -> None:
        """See to what it has of somebody else than DNMS; `seen` is where it said so. LogError."""

        def affords(decisions: int) -> bool:
            return not decisions or self._budget.decisions.take(asyncio.get_running_loop().time(), decisions)

        await block(
            self._books,
            self._claims,
            client=self.client,
            snapshot=snapshot,
            seen=seen,
            affords=affords,
        )
