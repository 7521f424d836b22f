"""One node's session, as the agent serves it: each request is decided, recorded, and only then answered."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Set

import msgspec
import structlog

from dnms.agents.subnet import drifted
from dnms.agents.subnet.away import Away, wanted_by
from dnms.agents.subnet.books import Books
from dnms.agents.subnet.budget import Budget
from dnms.agents.subnet.claims import Claims
from dnms.agents.subnet.delegates import Delegates
from dnms.agents.subnet.joining import Joining
from dnms.agents.subnet.newcomers import Newcomers
from dnms.agents.subnet.registration import Registration
from dnms.agents.subnet.told import Told, ping_every
from dnms.bus.port import LostRace, Unanswered, Unavailable
from dnms.domain import rollouts
from dnms.domain.aggregate import Refused
from dnms.domain.assignment import RETRY, assign
from dnms.domain.leases import Lease
from dnms.domain.outage import OUTAGE
from dnms.events.ip import family, parse_address
from dnms.events.plan import Family
from dnms.events.requests import (
    AllocateAddress,
    DeclineAddress,
    ReleaseAddress,
    RenewAddress,
)
from dnms.events.seen import ConfigurationApplied
from dnms.wire import agent_events as heard
from dnms.wire.agent_session import AgentSession
from dnms.wire.errors import Code
from dnms.wire.frames import NOT_A_REQUEST
from dnms.wire.messages import MAX_ASSOCIATIONS, Assign, Association, Binding

OUTAGE_RETRY = 5  # seconds

_logger = structlog.get_logger(__name__)

BUSY_RETRY = 30  # seconds

_NOT_NOW = (Unavailable, Unanswered, LostRace)


class Introduction(msgspec.Struct, frozen=True):
    """How the agent introduces itself to its nodes."""

    agent: str
    site: str
    subnet: str
    interface: str = ""  # of this machine, towards the link


class ServedNode:
    """What the agent knows of the node at the other end of a session."""

    def __init__(
        self,
        session: AgentSession,
        books: Books,
        introduction: Introduction,
        *,
        peer: str,
        relay: str = "",
        joining: Joining,
        newcomers: Newcomers | None = None,
        claims: Claims | None = None,
    ) -> None:
        """`newcomers` bounds the new leases of the address that it comes from; None: nothing does.

        `relay` is the one that it comes through, if any. `claims` looks into what it says that it has of others; None:
        that is let be.
        """
        self._newcomers = newcomers
        self._session = session
        self._books = books
        self._introduction = introduction
        self.peer = parse_address(peer.split("%", maxsplit=1)[0])
        self.relay = relay
        self._budget = Budget(now=asyncio.get_running_loop().time())
        self._registration = Registration(
            books, books.observations, peer=self.peer, relay=relay, joining=joining, claims=claims, budget=self._budget
        )
        self._wanted: dict[tuple[int, Family], Association] = {}
        self._delegates = Delegates(
            books, interface=introduction.interface, next_hop=self.peer, affords=self._affords_lease
        )
        self.report: heard.AppliedReport | None = None  # the newest of this session
        self._reported: tuple[int, int, frozenset[tuple[bytes, str]], bool, str] | None = None
        self.told: Told | None = None  # in this session

    @property
    def client(self) -> bytes:
        """Its client id; empty until it has said who it is."""
        return self._registration.client

    @property
    def name(self) -> str:
        """As it calls itself."""
        return self._registration.name

    def is_any_of(self, clients: Set[bytes]) -> bool:
        """Whether it is one of these clients, or may be one that was entered by a hardware address of its own."""
        return self.client in clients or not self._registration.entries.isdisjoint(clients)

    def greet(self, greeted: heard.Greeted, client: bytes, *, now: float) -> None:
        """A node said who it is."""
        registration, introduction = self._registration, self._introduction
        registration.client, registration.duid, registration.name = client, greeted.duid, greeted.name
        self._delegates.greet(client, greeted.prefixes)
        self._session.welcome(
            agent=introduction.agent,
            site=introduction.site,
            subnet=introduction.subnet,
            time=self._books.now(),
            ping_every=ping_every(self._books.ledger),
            outage=self._books.outage.active,
            now=now,
        )

    async def handle(self, event: heard.AgentEvent) -> None:
        """Serve one event. What the log does not take is answered `outage`. LogError for what cannot be mended."""
        number: int = getattr(event, "id", 0)
        if not self._budget.affords(event, now=asyncio.get_running_loop().time()):
            self._refuse(number, Code.BUSY, retry_after=BUSY_RETRY)
            return
        try:
            if not await self._serve(event):
                await self._serve_away(event)
        except _NOT_NOW as error:
            _logger.warning("not answered", why=error.why, text=str(error))
            self._books.outage.counts["refused"] += 1
            self._books.owe(self.client)
            self._refuse(number, OUTAGE, "the log cannot be written", retry_after=OUTAGE_RETRY)
        except Refused as refusal:
            _logger.warning("refused", why=refusal.why, text=refusal.text)
            self._refuse(number, refusal.why, refusal.text, retry_after=RETRY)

    async def _serve(self, event: heard.AgentEvent) -> bool:
        """Serve one event by the log; False if that is away. Refused; LogError."""
        if self._books.outage.active:
            return False
        try:
            match event:
                case heard.Registered():
                    await self._registration.register(event)
                    self._session.registered(event.id)
                case heard.Observed():
                    await self._registration.observe(event)
                    self._session.registered(event.id)
                case heard.Requested():
                    await self._request(event)
                case heard.Renewed() | heard.Rebound():
                    await self._renew(event)
                case heard.Confirmed():
                    await self._confirm(event)
                case heard.Declined():
                    await self._decline(event)
                case heard.Released():
                    await self._each(ReleaseAddress, event.bindings)
                    await self._delegates.release()
                    self._session.bye(Code.RELEASED)
                case heard.AppliedReport():
                    self._report(event)
                case heard.DriftReport():
                    self._books.note(drifted.recorded(self.client, event.drifted))
        except _NOT_NOW:
            if not self._books.outage.active:
                raise
            return False
        return True

    async def _serve_away(self, event: heard.AgentEvent) -> None:
        """Serve one event while the log is away. Unavailable, where that cannot be."""
        if isinstance(event, heard.AppliedReport):
            self._report(event)
        elif isinstance(event, heard.DriftReport):
            self._books.note(drifted.recorded(self.client, event.drifted))
        elif isinstance(event, heard.Registered):
            self._registration.register_later(event)
            self._session.registered(event.id)
        elif self._is_observed and not isinstance(event, heard.Observed):
            self._tell(self._assignment({}), getattr(event, "id", NOT_A_REQUEST))
        else:
            if isinstance(event, heard.Requested) and event.generation is None:
                self._delegates.begin_anew()
            for each in wanted_by(event):  # whether it gets that now or not: the rest is pushed when the log is back
                self._want(each)
            group, prefixes = self._registration.group, self._delegates.told()
            await Away(self._tell, self._books, self.client, group, prefixes).serve(event)
            self._books.owe(self.client)

    def _refuse(self, number: int, code: str, text: str = "", *, retry_after: int) -> None:
        if number:  # what only reports is not answered
            self._session.error(number, code, text, retry_after=retry_after)

    async def push(self) -> None:
        """The plan has changed, or the log is back: assign anew what the node asked for."""
        if self._session.closed:
            return
        if self._wanted or self._delegates.wanted or self._registration.is_owed:
            try:
                await self._registration.catch_up()
                await self._registration.join([iaid for iaid, _ in self._wanted])
                refused = await self._allocate(self._wanted.values())
            except _NOT_NOW as error:
                _logger.warning("not pushed", why=error.why)
                self._books.owe(self.client)
                return
        if self._wanted or self._delegates.wanted:
            self._tell(self._assignment({kind: refusal.why for kind, refusal in refused.items()}))

    @property
    def answers(self) -> bool:
        """Whether it has an assignment of this session, and was heard since it was told of it last."""
        return not self._session.closed and self.told is not None and self._session.heard > self.told.heard

    async def extend(self) -> None:
        """Have what the node holds last longer, and tell it, before it has to ask (T1). LogError.

        Where that cannot be, it is told nothing, and asks: then it hears why. So it is with a node that has gone to
        another subnet, which is to lose at the promised end what it has here.
        """
        books, told = self._books, self.told
        leases = self._leases()
        if told is None or not leases or books.has_left(self.client):
            return
        if not books.outage.active:
            if self._lacks() or not self._is_settled(leases):
                await self.push()  # it would be given the rest too when it renews
                return
            try:
                await self._each(RenewAddress, [Binding(iaid=each.iaid, address=each.address) for each in leases])
                if await self._delegates.ask(self._registration.group):
                    raise Refused("prefix")
            except Refused:
                await self.push()
                return
            except _NOT_NOW as error:
                _logger.debug("not extended", why=error.why)
                if not books.outage.active:
                    return
        assign = self._assignment({})
        if self.told is not told or self._session.closed:
            return  # it has asked meanwhile, and has its answer
        if assign.outage and (self._lacks() or not self._may_extend_away(assign, told)):
            return
        extended = told.extension(assign, asyncio.get_running_loop().time())
        if extended is None:
            self._tell(assign)
        else:
            self._session.extended(extended)
            self._note_told(assign)

    def _lacks(self) -> bool:
        """Whether it wants more than it has, of a family of which the subnet has addresses."""
        ledger = self._books.ledger
        return any(
            (self.client, iaid, kind) not in ledger.bindings and ledger.adopted.pools(kind)
            for iaid, kind in self._wanted
        )

    def _is_settled(self, leases: list[Lease]) -> bool:
        """Whether it has what is kept for it, and nothing of another group."""
        holds, group = self._books.ledger.holds, self._registration.group
        has = {lease.address for lease in leases}
        return all(
            lease.drained_at or (lease.group == group and has.issuperset(holds.get(lease.binding, ())))
            for lease in leases
        )

    def _may_extend_away(self, assign: Assign, told: Told) -> bool:
        """While the log is away: it has promised all of it for longer than the node knows, and nothing is granted."""
        outage = self._books.outage
        return told.is_worth(assign, asyncio.get_running_loop().time()) and not any(
            outage.has_granted(self.client, each.iaid, each.address) for each in assign.assignment.addresses
        )

    def _tell(self, assign: Assign, answer_to: int = NOT_A_REQUEST) -> None:
        self._session.assign(assign, answer_to=answer_to)
        self._note_told(assign)

    def _note_told(self, assign: Assign) -> None:
        self.told = Told(assign, asyncio.get_running_loop().time(), self._session.heard)

    def leave(self, why: str) -> None:
        """The session has ended; only the first word is recorded."""
        self._registration.leave(why)

    async def _request(self, event: heard.Requested) -> None:
        await self._books.reach(event.generation)
        bindings = self._books.ledger.bindings
        if event.generation is None and any(
            (self.client, each.iaid, each.family) in bindings for each in event.associations
        ):
            # It has nothing, and the ledger says that it does: perhaps it gave that back to another agent just now.
            await self._books.catch_up()
        for each in event.associations:
            self._want(each)
        await self._answer(event.id)

    async def _renew(self, event: heard.Renewed | heard.Rebound) -> None:
        await self._books.reach(event.generation)
        self._remember(event.bindings, event.wanted)
        await self._each(RenewAddress, event.bindings)
        await self._answer(event.id, renewed=event.bindings)

    async def _confirm(self, event: heard.Confirmed) -> None:
        """RFC 8415, 18.3.3; beyond it, what is confirmed is renewed, since the node may have been away for long."""
        await self._books.reach(event.generation)
        adopted = self._books.ledger.adopted
        if not adopted.plan.position:
            raise Refused("no-subnet", "no plan was adopted yet")  # so nobody can say that the node is elsewhere
        if not all(adopted.is_on_link(binding.address) for binding in event.bindings):
            self._session.error(event.id, Code.NOT_ON_LINK, "these addresses are of another link")
            return
        self._remember(event.bindings, event.wanted)
        await self._each(RenewAddress, event.bindings)
        await self._answer(event.id, renewed=event.bindings)

    async def _decline(self, event: heard.Declined) -> None:
        self._remember(event.bindings, event.wanted)
        try:
            await self._each(DeclineAddress, event.bindings)
        except Refused as refusal:
            if refusal.why != Code.NO_BINDING:  # declined already, in a session that ended before the answer
                raise
        await self._answer(event.id)

    def _report(self, event: heard.AppliedReport) -> None:
        """Record an outcome, where it is another one than before or of another plan: who asks whether a plan has
        reached a node finds it here. A renewal that changed nothing is no news.

        What the node rolled back it does not decline: its leases stay as they are, the one to which it went back too.
        """
        self.report = event
        outcomes = frozenset((item.address, item.outcome) for item in event.items)
        reported = (event.generation.epoch, event.generation.plan, outcomes, event.unproven, event.why)
        if reported != self._reported:
            applied = ConfigurationApplied(
                client=self.client,
                generation=event.generation,
                items=event.items,
                unproven=event.unproven,
                why=event.why,
            )
            self._books.note(applied)  # the node does not say it again
            self._reported = reported

    def _remember(self, bindings: Iterable[Binding], wanted: Iterable[Association] = ()) -> None:
        """What it wants, whatever becomes of what it asks now: it may be given the rest without asking once more."""
        for each in wanted:
            self._want(each)
        for binding in bindings:
            kind: Family = 4 if family(binding.address) == 4 else 6
            self._want(Association(iaid=binding.iaid, family=kind))

    def _want(self, association: Association) -> None:
        """Refused if the node wants ever more: an assignment and its report name no more than so many."""
        key = (association.iaid, association.family)
        if key not in self._wanted and len(self._wanted) >= MAX_ASSOCIATIONS:
            raise Refused("too-many-associations", f"a node may want {MAX_ASSOCIATIONS} addresses on a link")
        self._wanted[key] = association

    async def _each(
        self, kind: type[RenewAddress | ReleaseAddress | DeclineAddress], bindings: Iterable[Binding]
    ) -> None:
        """Decide about each binding, together. Refused with the first word."""
        requests = [kind(client=self.client, iaid=each.iaid, address=each.address) for each in bindings]
        for outcome in await self._books.decide_all(requests):
            if isinstance(outcome, BaseException):
                raise outcome

    async def _allocate(self, associations: Iterable[Association]) -> dict[str, Refused]:
        """Have an address for each; the families that were refused. Who is only observed gives back what it has."""
        group = self._registration.group
        if self._is_observed:
            await self._each(ReleaseAddress, [Binding(iaid=each.iaid, address=each.address) for each in self._leases()])
            return {}
        refused: dict[str, Refused] = {}
        wanted: list[Association] = []
        for each in associations:
            has_one = self._books.ledger.leases_of(self.client, each.iaid, each.family)
            if not has_one and not self._affords_lease():
                refused[str(each.family)] = Refused(Code.BUSY, "too many new leases go to where this node comes from")
            else:
                wanted.append(each)
        requests = [
            AllocateAddress(client=self.client, iaid=each.iaid, family=each.family, group=group) for each in wanted
        ]
        outcomes = await self._books.decide_all(requests)
        for each, outcome in zip(wanted, outcomes, strict=True):
            if isinstance(outcome, Refused):
                refused[str(each.family)] = outcome
            elif isinstance(outcome, BaseException):
                raise outcome
        return refused | await self._delegates.ask(group)

    @property
    def _is_observed(self) -> bool:
        """Whether the plan has nothing of it touched, so that it gets nothing."""
        return rollouts.told(self._books.ledger, self.client, self._registration.group).policy.mode == "observe"

    def _affords_lease(self) -> bool:
        return self._newcomers is None or self._newcomers.leases(self.peer, now=asyncio.get_running_loop().time())

    async def _answer(self, number: int, *, renewed: Iterable[Binding] = ()) -> None:
        """Assign all that the node wants, by this request or one before; `renewed` is settled already."""
        await self._registration.join([iaid for iaid, _ in self._wanted])
        group = self._registration.group
        ledger = self._books.ledger
        # Who is in another group now is not settled: its address may have to say so. Nor is who has one kept for it.
        settled = {
            (each.iaid, family(each.address))
            for each in renewed
            if (lease := ledger.leases.get(each.address))
            and lease.group == group
            and not lease.drained_at
            and lease.binding not in ledger.holds
        }
        refused = await self._allocate(each for key, each in self._wanted.items() if key not in settled)
        is_nothing = not (self._leases() or self._delegates.told())
        if is_nothing and refused and refused.keys() >= {str(kind) for _, kind in self._wanted}:
            first = next(iter(refused.values()))
            self._session.error(number, first.why, first.text, retry_after=RETRY)
            return
        self._tell(self._assignment({kind: refusal.why for kind, refusal in refused.items()}), number)

    def _leases(self) -> list[Lease]:
        ledger = self._books.ledger
        leases = [lease for iaid, kind in self._wanted for lease in ledger.leases_of(self.client, iaid, kind)]
        return leases[:MAX_ASSOCIATIONS]  # a node's report names no more

    def _assignment(self, refused: dict[str, str]) -> Assign:
        books = self._books
        terms = assign(
            books.ledger,
            self._leases(),
            client=self.client,
            group=self._registration.group,
            at=books.now(),
            epoch=0,
            position=books.position,
            prefixes=self._delegates.told(),
            log=books.log,
        )
        return Assign(
            assignment=terms.assignment,
            renew_after=terms.renew_after,
            rebind_after=terms.rebind_after,
            refused=refused,
            outage=books.outage.active,
        )
