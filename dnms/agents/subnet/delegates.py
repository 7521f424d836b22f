"""The prefixes of one node, as its session wants them: each is decided, recorded and routed, and only then told."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from dnms.agents.subnet.books import Books
from dnms.domain.aggregate import Refused
from dnms.domain.delegating import prefixes_of
from dnms.domain.delegations import Delegated
from dnms.events.configuration import AssignedPrefix
from dnms.events.requests import DelegatePrefix, ReleasePrefix
from dnms.wire.errors import Code
from dnms.wire.messages import PrefixAssociation

PREFIX = "prefix"
"""Under which an assignment says why no prefix was delegated, as it says it of a family of addresses."""

NO_ROUTE = "no-route"


class Delegates:
    """Of one session."""

    def __init__(
        self,
        books: Books,
        *,
        interface: str,
        next_hop: bytes,
        excludes: bool = True,
        affords: Callable[[], bool] = lambda: True,
    ) -> None:
        """`interface` leads to the link, and `next_hop` is the node there. `excludes`: it understands RFC 6603.

        `affords`: whether one more new prefix may go there.
        """
        self._affords = affords
        self._books = books
        self._interface = interface
        self._next_hop = next_hop
        self._excludes = excludes
        self._client = b""
        self._has_nothing = False
        self.wanted: tuple[PrefixAssociation, ...] = ()

    def greet(self, client: bytes, wanted: Iterable[PrefixAssociation]) -> None:
        """The node said who it is, and what it wants."""
        self._client, self.wanted = client, tuple(wanted)

    def begin_anew(self) -> None:
        """The node has nothing, and the log is away: perhaps it gave back to another agent what it has by the ledger as
        that is known here, and somebody else has it now.
        """
        self._has_nothing = True

    async def ask(self, group: int) -> dict[str, Refused]:
        """Have a prefix for each association, or keep it, and a route to it; why not, if not. LogError."""
        if not self.wanted:
            return {}
        of = self._books.ledger.delegations.of
        wanted = [each for each in self.wanted if of(self._client, each.iaid) or self._affords()]
        requests = [
            DelegatePrefix(
                client=self._client,
                iaid=each.iaid,
                length=each.length,
                group=group,
                next_hop=self._next_hop,
                interface=self._interface,
                excludes=self._excludes,
            )
            for each in wanted
        ]
        refused: dict[str, Refused] = {}
        if len(wanted) < len(self.wanted):
            refused[PREFIX] = Refused(Code.BUSY, "too many new prefixes go to where this node comes from")
        outcomes = await self._books.decide_all(requests)
        self._has_nothing = False
        for outcome in outcomes:
            if isinstance(outcome, Refused):
                refused[PREFIX] = outcome
            elif isinstance(outcome, BaseException):
                raise outcome
        held = self._held()
        await self._books.routers.wait(self._routers, max((each.routed for each in held), default=0))
        if any(map(self._is_unrouted, held)):
            self._books.owe_route(self._client)
            refused[PREFIX] = Refused(NO_ROUTE, "a router of the link has no route to it yet")
        return refused

    async def release(self) -> None:
        """The node gives all of them back. Refused; LogError."""
        for each in self._held():
            await self._books.decide(ReleasePrefix(client=self._client, iaid=each.iaid, prefix=each.prefix))

    def told(self) -> tuple[AssignedPrefix, ...]:
        """What it has, with lifetimes from now on."""
        if self._has_nothing and self._books.outage.active:
            return ()
        ledger, now = self._books.ledger, self._books.now()
        unrouted = {each.prefix for each in self._held() if self._is_unrouted(each)}
        return tuple(
            each
            for association in self.wanted
            for each in prefixes_of(ledger, self._client, association.iaid, now)
            if each.prefix not in unrouted
        )

    def _held(self) -> list[Delegated]:
        delegations = self._books.ledger.delegations
        return [each for association in self.wanted for each in delegations.of(self._client, association.iaid)]

    def _is_unrouted(self, each: Delegated) -> bool:
        """Whether it is to be told of only later. What it was told once it keeps, wherever its routers are."""
        return not self._books.routers.has_route(self._routers, each.prefix, each.position)

    @property
    def _routers(self) -> tuple[str, ...]:
        subnet = self._books.ledger.plan.subnet
        return () if subnet is None else subnet.downlink.routers
