"""What a node is told while the log is away: what the agent knows, or may give by itself, and else `outage`.

The ledger here may be behind. So nothing is denied, and nobody is told what it does not claim to have, but what is
granted by the journal: it may be another's by now.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Set

from dnms.agents.subnet.books import Books
from dnms.bus.port import Unavailable
from dnms.domain.aggregate import Refused
from dnms.domain.assignment import assign
from dnms.domain.leases import Lease
from dnms.events.configuration import AssignedPrefix, Generation
from dnms.events.ip import family
from dnms.events.requests import AllocateAddress
from dnms.kit.clock import MICROSECONDS
from dnms.wire import agent_events as heard
from dnms.wire.messages import MAX_ASSOCIATIONS, Assign, Association, Binding

SHORTEST = MICROSECONDS
"""Of the log's promise, that is worth telling."""


class Away:
    """Answers the requests of one node, in its group."""

    def __init__(
        self,
        tell: Callable[[Assign, int], None],
        books: Books,
        client: bytes,
        group: int,
        prefixes: tuple[AssignedPrefix, ...] = (),
    ) -> None:
        """`tell` sends an assignment as the answer to the request of this number. `prefixes` it has, and keeps."""
        self._tell = tell
        self._books = books
        self._client = client
        self._group = group
        self._prefixes = prefixes

    async def serve(self, event: heard.AgentEvent) -> None:
        """Answer one request. Unavailable, where the node has to ask again."""
        match event:
            case heard.Requested():
                self._reach(event.generation)
                # Without a generation it has nothing, and perhaps gave what it had to an agent that the log hears.
                had = {each.held for each in event.associations if each.held} if event.generation is not None else ()
                await self._answer(event.id, wanted_by(event), frozenset(had))
            case heard.Renewed() | heard.Rebound() | heard.Confirmed():
                self._reach(event.generation)
                for each in event.bindings:
                    self._check(each)
                await self._answer(event.id, wanted_by(event), frozenset(each.address for each in event.bindings))
            case heard.Declined():
                await self._decline(event)
            case _:
                raise Unavailable("the log is away")

    def _reach(self, generation: Generation | None) -> None:
        if generation is not None and generation.ledger > self._books.position:
            raise Unavailable(f"the node was told of position {generation.ledger}, and the log is away")

    def _check(self, binding: Binding) -> None:
        lease = self._books.ledger.leases.get(binding.address)
        if lease is None or (lease.client, lease.iaid) != (self._client, binding.iaid) or not self._lasts(lease):
            raise Unavailable("the log may know of this address, and is away")

    def _lasts(self, lease: Lease) -> bool:
        """Whether there is something to tell of it: the log promises it, or the node must be told its end."""
        if self._books.ledger.place_of(lease.address) is None:
            return False
        return lease.horizon - self._books.now() >= SHORTEST or self._is_granted(lease)

    def _is_granted(self, lease: Lease) -> bool:
        return self._books.outage.has_granted(self._client, lease.iaid, lease.address)

    async def _decline(self, event: heard.Declined) -> None:
        try:
            for each in event.bindings:
                await self._books.outage.decline(self._client, each.iaid, each.address)
        except Refused as refusal:
            raise Unavailable(refusal.text) from refusal
        await self._answer(event.id, wanted_by(event), frozenset())

    async def _answer(self, number: int, wanted: Iterable[Association], claimed: Set[bytes]) -> None:
        """Assign what it claims and the log has promised it, and grants. Unavailable if that is nothing."""
        told: dict[bytes, None] = {}
        refused: dict[str, str] = {}
        for each in {(each.iaid, each.family): each for each in wanted}.values():
            known = [
                lease
                for lease in self._books.ledger.leases_of(self._client, each.iaid, each.family)
                if self._lasts(lease)
            ]
            is_claimed = any(lease.address in claimed for lease in known)
            told.update((lease.address, None) for lease in known if is_claimed)
            if is_claimed and not any(self._is_granted(lease) for lease in known):
                continue
            try:
                request = AllocateAddress(client=self._client, iaid=each.iaid, family=each.family, group=self._group)
                told[await self._books.outage.grant(request)] = None
            except Refused as refusal:
                if not is_claimed:
                    refused[str(each.family)] = refusal.why
        leases = [lease for address in told if (lease := self._books.ledger.leases.get(address)) is not None]
        leases = [lease for lease in leases if lease.client == self._client][:MAX_ASSOCIATIONS]
        if not leases:
            raise Unavailable("nothing that is wanted here is given while the log is away")
        if refused:
            self._books.outage.counts["refused"] += len(refused)
        books = self._books
        terms = assign(
            books.ledger,
            leases,
            client=self._client,
            group=self._group,
            at=books.now(),
            epoch=0,
            position=books.position,
            prefixes=self._prefixes,
            log=books.log,
        )
        self._tell(
            Assign(
                assignment=terms.assignment,
                renew_after=terms.renew_after,
                rebind_after=terms.rebind_after,
                refused=refused,
                outage=books.outage.active,
            ),
            number,
        )


def wanted_by(event: heard.AgentEvent) -> tuple[Association, ...]:
    """What a node wants that asks this."""
    match event:
        case heard.Requested():
            return event.associations
        case heard.Renewed() | heard.Rebound() | heard.Confirmed() | heard.Declined():
            return _of(event.bindings) + event.wanted
    return ()


def _of(bindings: Iterable[Binding]) -> tuple[Association, ...]:
    return tuple(Association(iaid=each.iaid, family=4 if family(each.address) == 4 else 6) for each in bindings)
