"""The addresses of a DHCPv6 client (IA_NA; RFC 8415, 18.3), out of the ledger that nodes with an agent have theirs of.

What is kept for a client, what it has and what its group may have is the ledger's to say, for it as for any node. A
Renew or a Rebind gives what a Request would, and ends what the client speaks of and does not have. Nobody is denied
what another server may have given: who rebinds or confirms that is not answered. While the log is away, what the log
has promised is told, and what the plan lets an agent give by itself is given.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence

from dnms.agents.subnet.books import Books
from dnms.agents.subnet.granted import is_granted
from dnms.agents.subnet.reserving import Reserving
from dnms.domain import outage
from dnms.domain.aggregate import Refused
from dnms.domain.assignment import addresses_of
from dnms.domain.leases import Lease, leased
from dnms.domain.ledger import Ledger
from dnms.events.address import AddressAllocated
from dnms.events.recorded import Event
from dnms.events.requests import AllocateAddress, DeclineAddress, ReleaseAddress
from dnms.kit.clock import MICROSECONDS
from dnms.wire.dhcp6.associations import IaAddress, StatusOption, failed
from dnms.wire.dhcp6.codes import Kind, Status
from dnms.wire.dhcp6.server import (
    MAX_ADDRESSES,
    GivenAddresses,
    Question,
    WantedAddresses,
    address_over,
    no_address,
    no_binding,
    not_on_link,
    success,
)

SHORTEST = MICROSECONDS
"""Of the log's promise, that is worth telling."""

NO_BINDING = "no-binding"

_KEEPING = (Kind.RENEW, Kind.REBIND)

Look = Callable[[AllocateAddress], Awaitable[AllocateAddress]]
"""Makes of a request one for an address that nobody of the link has."""


class Addresses:
    """What one message asks for, of one client."""

    def __init__(
        self,
        books: Books,
        asked: Question,
        reserving: Reserving,
        *,
        client: bytes,
        names: tuple[bytes, ...],
        group: int,
        look: Look | None = None,
    ) -> None:
        """`names`: the clients for which the plan reserves what this one is to have; `look`: before it is given it."""
        self._books = books
        self._asked = asked
        self._reserving = reserving
        self._client = client
        self._names = names
        self._group = group
        self._look = look
        bindings = books.ledger.bindings
        self.new = sum([(client, each.iaid, 6) not in bindings for each in asked.addresses])
        """How many of the associations have nothing yet."""

    @property
    def are_ours(self) -> bool:
        """Whether all that is rebound is, or may have been, given here, or is of another link (RFC 8415, 18.3.5)."""
        ledger = self._books.ledger
        knows_link = _knows_link(ledger)
        return ledger.plan.subnet is not None and all(
            (self._client, each.iaid, 6) in ledger.bindings
            or all(
                ledger.place_of(a) is not None or (knows_link and not ledger.adopted.is_on_link(a))
                for a in each.addresses
            )
            for each in self._asked.addresses
        )

    @property
    def are_settled(self) -> bool:
        """Whether it has all of them by what is in the log, for as long as it is told: nothing is to be decided."""
        return all(is_granted(self._books, self._request(each)) for each in self._asked.addresses)

    # -- what it has, or would have ------------------------------------------------------------------------------------

    async def given(self) -> tuple[GivenAddresses, ...]:
        """What it has now, decided and recorded. LogError."""
        asked, books = self._asked, self._books
        if asked.kind in (Kind.REQUEST, Kind.SOLICIT) and self.new < len(asked.addresses):
            await books.catch_up()  # it may have given that back to another agent just now
        wanted = [each for each in asked.addresses if not self._is_elsewhere(each)]
        refused: dict[int, Refused] = {}
        for each in wanted if self._names else ():
            await self._reserving.claim(self._names, self._client, each.iaid, 6)
        requests: list[AllocateAddress] = []
        for each in wanted:
            try:
                request = self._request(each)
                requests.append(request if self._look is None else await self._look(request))
            except Refused as refusal:
                refused[each.iaid] = refusal
        outcomes = await books.decide_all(requests)
        for request, outcome in zip(requests, outcomes, strict=True):
            if isinstance(outcome, Refused):
                refused[request.iaid] = outcome
            elif isinstance(outcome, BaseException):
                raise outcome
        return self._answered(books.ledger, refused)

    def foreseen(self) -> tuple[GivenAddresses, ...]:
        """What it would have."""
        if not self._asked.addresses:
            return ()
        if len(self._asked.addresses) == 1 and (given := self._foreseen(self._asked.addresses[0])) is not None:
            return (given,)
        draft, at = self._books.ledger.draft(), self._books.now()
        refused: dict[int, Refused] = {}
        for each in self._asked.addresses:
            request = self._request(each)
            self._reserving.foresee(draft, self._names, self._client, each.iaid, 6)
            try:
                events = draft.decide(request, at=at, entropy=bytes(draft.entropy(request)))
            except Refused as refusal:
                refused[each.iaid] = refusal
            else:
                for event in events:
                    draft.evolve(event, at=at, position=0)
        return self._answered(draft, refused)

    def _foreseen(self, each: WantedAddresses) -> GivenAddresses | None:
        """What one without anything would have of one association, as most that ask have: it needs no draft."""
        ledger, request = self._books.ledger, self._request(each)
        if self._names or (self._client, each.iaid, 6) in ledger.bindings:
            return None
        try:
            events = ledger.decide(request, at=self._books.now(), entropy=bytes(ledger.entropy(request)))
        except Refused:
            return None
        if len(events) != 1 or not isinstance(events[0], AddressAllocated):
            return None
        told = self._told(ledger, each, (leased(events[0]),))
        return GivenAddresses(iaid=each.iaid, addresses=told) if told else None

    def settled(self) -> tuple[GivenAddresses, ...]:
        """What it has, where that `are_settled`."""
        return self._answered(self._books.ledger, {})

    @property
    def first(self) -> AllocateAddress | None:
        """What is to be decided for one who has nothing yet and asks for one association, as most do; else None."""
        if len(self._asked.addresses) != 1 or not self.new or self._is_elsewhere(self._asked.addresses[0]):
            return None
        return self._request(self._asked.addresses[0])

    def given_first(self, refused: Refused | None) -> tuple[GivenAddresses, ...]:
        """What it has by what was decided of its `first`."""
        iaid = self._asked.addresses[0].iaid
        return self._answered(self._books.ledger, {} if refused is None else {iaid: refused})

    def _request(self, each: WantedAddresses) -> AllocateAddress:
        return AllocateAddress(client=self._client, iaid=each.iaid, family=6, group=self._group)

    def _is_elsewhere(self, each: WantedAddresses) -> bool:
        """Whether it requests what another link has (RFC 8415, 18.3.2)."""
        adopted = self._books.ledger.adopted
        return self._asked.kind is Kind.REQUEST and not all(map(adopted.is_on_link, each.addresses))

    def _answered(self, ledger: Ledger, refused: dict[int, Refused]) -> tuple[GivenAddresses, ...]:
        given = []
        for each in self._asked.addresses:
            if self._is_elsewhere(each):
                given.append(GivenAddresses(iaid=each.iaid, status=not_on_link()))
                continue
            told = self._told(ledger, each, ledger.leases_of(self._client, each.iaid, 6))
            if not told:
                text = refused[each.iaid].text if each.iaid in refused else "none is free"
                given.append(GivenAddresses(iaid=each.iaid, status=no_address(text)))
            else:
                given.append(GivenAddresses(iaid=each.iaid, addresses=told))
        return tuple(given)

    def _told(self, ledger: Ledger, each: WantedAddresses, leases: Iterable[Lease]) -> tuple[IaAddress, ...]:
        """Of one association: what it has, what it is to leave, and what it thought that it had."""
        has = _lasting(ledger, leases, at=self._books.now())
        is_kept = self._asked.kind in _KEEPING
        told = [one for one in has if one.preferred or (is_kept and one.address in each.addresses)][:MAX_ADDRESSES]
        if is_kept:
            known = {one.address for one in told}
            told += [address_over(address) for address in each.addresses if address not in known]
        return tuple(told)

    # -- while the log is away -----------------------------------------------------------------------------------------

    async def given_away(self) -> tuple[GivenAddresses, ...] | None:
        """What it has and is given by this agent alone; None: only the log can say that."""
        given = []
        for each in self._asked.addresses:
            one = await self._away(each)
            if one is None:
                return None
            given.append(one)
        return tuple(given)

    async def _away(self, each: WantedAddresses) -> GivenAddresses | None:
        books, is_kept = self._books, self._asked.kind in _KEEPING
        known = [lease for lease in books.ledger.leases_of(self._client, each.iaid, 6) if self._lasts(lease)]
        claimed = [lease for lease in known if lease.address in each.addresses]
        if is_kept and len(claimed) < len(each.addresses):
            return None
        if not claimed or any(books.outage.has_granted(self._client, each.iaid, one.address) for one in claimed):
            try:
                address = await self._grant(each)
            except Refused as refusal:
                if not claimed:
                    return None if is_kept else GivenAddresses(iaid=each.iaid, status=no_address(refusal.text))
            else:
                if address is not None:
                    return GivenAddresses(iaid=each.iaid, addresses=(address,))
                claimed = [lease for lease in books.ledger.leases_of(self._client, each.iaid, 6) if self._lasts(lease)]
        told = self._told(books.ledger, each, claimed)
        return GivenAddresses(iaid=each.iaid, addresses=told) if told else None

    async def _grant(self, each: WantedAddresses) -> IaAddress | None:
        """Have it given by this agent; where it is only offered, what that would be. Refused."""
        books, request = self._books, self._request(each)
        if self._asked.commits:
            await books.outage.grant(request)
            return None
        entry = outage.grant(books.ledger, request, at=books.now())
        seconds = max(0, entry.valid_until - books.now()) // MICROSECONDS
        pool = books.ledger.pool_of(entry.address)
        preferred = seconds if pool is None else min(seconds, pool.preferred)
        return IaAddress(address=entry.address, preferred=preferred, valid=seconds)

    def _lasts(self, lease: Lease) -> bool:
        books = self._books
        if books.ledger.place_of(lease.address) is None:
            return False
        is_granted = books.outage.has_granted(self._client, lease.iaid, lease.address)
        return is_granted or lease.horizon - books.now() >= SHORTEST

    # -- what it says of what it has -----------------------------------------------------------------------------------

    def confirmed(self) -> StatusOption | None:
        """Whether the addresses are of this link (RFC 8415, 18.3.3); None: that cannot be said."""
        ledger = self._books.ledger
        if not _knows_link(ledger):
            return None
        if all(ledger.adopted.is_on_link(address) for each in self._asked.addresses for address in each.addresses):
            return success("all of them are of this link")
        return None if self._books.outage.active else not_on_link()

    async def released(self) -> tuple[GivenAddresses, ...]:
        """Have what it gives back be free; what of that is not known (RFC 8415, 18.3.7). LogError."""
        return await self._ended(ReleaseAddress)

    async def declined(self) -> tuple[GivenAddresses, ...] | None:
        """Have nobody given what it found in use; what of that is not known (RFC 8415, 18.3.8). LogError.

        None: while the log is away, only the log can do that.
        """
        if not self._books.outage.active:
            return await self._ended(DeclineAddress)
        try:
            for each in self._asked.addresses:
                for address in each.addresses:
                    await self._books.outage.decline(self._client, each.iaid, address)
        except Refused:
            return None
        return ()

    async def _ended(self, kind: type[ReleaseAddress | DeclineAddress]) -> tuple[GivenAddresses, ...]:
        unknown = []
        for each in self._asked.addresses:
            outcomes = await self._books.decide_all(
                kind(client=self._client, iaid=each.iaid, address=address) for address in each.addresses
            )
            if (status := _why_not(outcomes)) is not None:
                unknown.append(GivenAddresses(iaid=each.iaid, status=status))
        return tuple(unknown)


def _knows_link(ledger: Ledger) -> bool:
    """Whether the plan says what IPv6 the link has; else what is not of the plan may be another server's."""
    subnet = ledger.plan.subnet
    return subnet is not None and any(prefix.family == 6 for prefix in subnet.prefixes)


def _why_not(outcomes: Sequence[tuple[Event, ...] | BaseException]) -> StatusOption | None:
    """What is said of an association of which nothing could be done; None: something was. LogError."""
    refused = [outcome for outcome in outcomes if isinstance(outcome, Refused)]
    for outcome in outcomes:
        if isinstance(outcome, BaseException) and not isinstance(outcome, Refused):
            raise outcome
    if len(refused) < len(outcomes):
        return None
    other = next((each for each in refused if each.why != NO_BINDING), None)
    return no_binding() if other is None else failed(Status.UNSPEC_FAIL, other.text)


def _lasting(ledger: Ledger, leases: Iterable[Lease], *, at: int) -> tuple[IaAddress, ...]:
    """With lifetimes from then on."""
    return tuple(
        IaAddress(address=each.address, preferred=each.preferred, valid=each.valid)
        for each in addresses_of(ledger, leases, at=at)
    )
