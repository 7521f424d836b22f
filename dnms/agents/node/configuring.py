"""What the node was assigned, in its kernel and on its disk. One change at a time; the newest wins."""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections.abc import Callable, Iterable
from functools import partial

import msgspec
import structlog

from dnms.agents.node.application import Application, held_now, remaining
from dnms.agents.node.confirming import Confirming
from dnms.agents.node.repairing import Repairing
from dnms.agents.node.work import Work
from dnms.agents.pump import Pump
from dnms.disk.delegated import delegated_by
from dnms.disk.node_state import Kept, NodeStateDirectory, NodeStateError
from dnms.domain.configured import NO_DIFFERENCE, difference
from dnms.events.configuration import Assignment, Snapshot
from dnms.events.ip import family, format_address
from dnms.events.seen import AppliedItem
from dnms.kit.clock import MICROSECONDS
from dnms.linux.errors import KernelError
from dnms.wire import node_events as heard
from dnms.wire.errors import Code
from dnms.wire.exchanges import Exchange
from dnms.wire.messages import FOREVER
from dnms.wire.node_session import NodeSession
from dnms.wire.node_state import ROLLED_BACK, USABLE, Held, NodeState

LOOK_AGAIN = 30.0  # seconds
DRAIN_LOOK = 5.0  # seconds between two looks whether sockets still use what is to go
AT_ONCE = 2.0  # seconds in which a proof is waited for before the agent is told that there is none yet
ANSWER = 2.0  # seconds for an agent to answer

_logger = structlog.get_logger(__name__)


class Configuring:
    """Keeps one interface as it is assigned, with a session or without; a session is told what changes."""

    def __init__(
        self,
        application: Application,
        confirming: Confirming,
        state: NodeState,
        directory: NodeStateDirectory,
        interface: str,
        *,
        now: Callable[[], float] = time.time,
    ) -> None:
        """`now` is the wall clock, in seconds since 1970-01-01 UTC."""
        self._application = application
        self._state = state
        self._directory = directory
        self._interface = interface
        self._now = now
        self._session: NodeSession | None = None
        self._pump: Pump[heard.NodeEvent] | None = None
        self._observed: Snapshot | None = None  # what the session was told last
        self._work = Work()
        self._repairing = Repairing(application)
        self._later: asyncio.TimerHandle | None = None  # a repair that has to wait, or what is drained
        self._confirming = confirming
        self._answered = asyncio.Event()
        self._stood: tuple[Assignment | None, dict[bytes, Held]] = (None, {})  # what is gone back to
        self._draining: tuple[Assignment, frozenset[int]] | None = None  # what sockets use of others stays for now

    def attend(self, session: NodeSession | None, pump: Pump[heard.NodeEvent] | None) -> None:
        """Tell this session, or none, what changes; once it is registered."""
        self._session, self._pump, self._observed = session, pump, None

    async def register(self, session: NodeSession) -> None:
        """Tell the whole configuration. KernelError; ValueError if it is too large."""
        self._observed = await self._application.snapshot()
        session.register(self._observed, asyncio.get_running_loop().time())

    def assigned(self, event: heard.Assigned, session: NodeSession) -> None:
        """Begin to apply an assignment, and report to the session."""
        self._delegate(event.assignment, event.began)
        self._repairing.begin_anew()
        self._work.begin(partial(self._apply, event.assignment, event.began, session))

    def extended(self, event: heard.Extended, session: NodeSession) -> None:
        """Begin to apply new lifetimes."""
        if (assignment := _extended(self._state.assignment, event)) is not None:
            self._delegate(assignment, event.began)
            # The outcome of an assignment that this cuts short is still to be told.
            owed = session if session.exchange is Exchange.APPLYING else None
            self._work.begin(partial(self._apply, assignment, event.began, owed))

    def unconfigured(self, why: Code) -> None:
        """Begin to strip what is over."""
        if why is not Code.EXPIRED:  # prefixes have ends of their own
            self._delegate(None, 0.0)
        self._work.begin(partial(self._strip, why), whole=True)

    async def watch(self) -> None:
        """Look now and then, until cancelled: not everything is told, and some repairs have to wait."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._work.watch())
            while True:
                await asyncio.sleep(LOOK_AGAIN)
                self.look_soon()

    async def stop(self) -> None:
        """Leave everything as it is."""
        if self._later is not None:
            self._later.cancel()
        await self._work.stop()

    def _delegate(self, assignment: Assignment | None, began: float) -> None:
        """Tell the Subnet Agent of this machine what is delegated to it, at once; None: nothing is."""
        since = self._now() - (asyncio.get_running_loop().time() - began)
        site, subnet = self._state.link or ("", "")
        delegated = None if assignment is None else delegated_by(assignment, site=site, subnet=subnet, since=since)
        try:
            self._directory.delegate(self._interface, delegated)
        except NodeStateError as error:
            _logger.error("what is delegated is not passed on", reason=str(error))

    async def _apply(self, assignment: Assignment, began: float, session: NodeSession | None) -> None:
        loop = asyncio.get_running_loop()
        if why := self._confirming.refuses(assignment):
            _logger.warning("assignment not tried again yet, it was rolled back", why=why)
            self._report(session, assignment, _all(assignment, ROLLED_BACK), why=why)
            return
        if why := await self._rival(assignment):
            self._report(session, assignment, _all(assignment, "refused"), why=why)
            return
        why, items = "", tuple[AppliedItem, ...]()
        try:
            proves = await self._confirming.begin(assignment, await self._application.snapshot())
            items = await self._application.apply(assignment, elapsed=loop.time() - began, going=self._going)
            if proves and _usable(items):
                why = await self._proof(assignment, items, session)
            if why:
                await self._confirming.roll_back(assignment, why)
                self._state.roll_back(*self._stood)
        except (KernelError, NodeStateError, OSError) as error:
            _logger.error("assignment not applied", reason=str(error))
            items = items or tuple(
                AppliedItem(address=each.address, outcome="refused") for each in assignment.addresses
            )
        if why:
            _logger.error("assignment rolled back", unanswered=why)
            self._report(session, assignment, _all(assignment, ROLLED_BACK), why=why)
        else:
            await self._stand(assignment, began, items, session)
        await self._observe()

    async def _rival(self, assignment: Assignment) -> str:
        """Why the interface is not taken over: another program manages it; empty if nobody does, or it is ours already.

        Two that manage one interface undo what the other did, and autoconfiguration is theirs and not the kernel's.
        """
        if self._stood[1] or assignment.policy.mode == "observe":
            return ""
        try:
            found = await self._application.rivals(assignment.policy)
        except KernelError as error:
            _logger.warning("other managers are not known", reason=str(error))
            return ""
        for rival in found:
            _logger.error(
                "not taken over: another program manages it", program=rival.name, how=rival.how, do=rival.advice
            )
        return f"rival-{found[0].name}" if found else ""

    async def _proof(self, assignment: Assignment, items: tuple[AppliedItem, ...], session: NodeSession | None) -> str:
        """What did not answer any more in the time that the policy gives; empty if all did. KernelError."""
        now, until = asyncio.get_running_loop().time, self._confirming.until
        why = await self._confirming.prove(assignment, self.session_answers, until=min(until, now() + AT_ONCE))
        if why and now() < until:
            self._report(session, assignment, items, unproven=True)
            why = await self._confirming.prove(assignment, self.session_answers, until=until)
        return why

    async def session_answers(self) -> bool:
        """Whether an agent answers over a session now: the one that there was, or one that was opened since."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(ANSWER):
                while self._session is None or self._pump is None:  # noqa: ASYNC110  # it is looked for
                    await asyncio.sleep(0.1)
                self._answered.clear()
                self._session.ask()
                self._pump.wake()
                await self._answered.wait()
                return True
        return False

    def answered(self) -> None:
        """The agent of the session has answered what it was asked."""
        self._answered.set()

    async def _stand(
        self, assignment: Assignment, began: float, items: tuple[AppliedItem, ...], session: NodeSession | None
    ) -> None:
        """What is applied stays: it is told, kept for a restart, and what others had set goes."""
        usable = tuple(item.address for item in items if item.outcome == USABLE)
        duplicates = tuple(item.address for item in items if item.outcome == "duplicate")
        _logger.info(
            "assignment applied",
            addresses=[format_address(address) for address in usable],
            duplicates=[format_address(address) for address in duplicates],
        )
        self._report(session, assignment, items)
        if session is not None and duplicates:
            session.declined(duplicates, asyncio.get_running_loop().time())
            if self._pump is not None:
                self._pump.wake()
        self._keep(assignment, began, usable)
        try:
            if usable or assignment.policy.mode == "observe":
                self._confirming.stands(assignment)
            self._stood = self._state.assignment, dict(self._state.held)
            await self._settle(assignment, frozenset(map(family, usable)))
        except (KernelError, NodeStateError) as error:
            _logger.error("assignment not settled", reason=str(error))

    def _report(
        self,
        session: NodeSession | None,
        assignment: Assignment,
        items: tuple[AppliedItem, ...],
        *,
        unproven: bool = False,
        why: str = "",
    ) -> None:
        if session is None:
            return
        now = asyncio.get_running_loop().time()
        session.applied(assignment.generation, items, now, unproven=unproven, why=why)
        if self._pump is not None:
            self._pump.wake()

    async def _settle(self, assignment: Assignment, families: frozenset[int]) -> None:
        """Remove what others had set, of these families; what sockets use later. KernelError."""
        self._draining = None
        if await self._application.settle(assignment, families, going=self._going):
            self._draining = assignment, families
            self._look_at(asyncio.get_running_loop().time() + DRAIN_LOOK)

    def _keep(self, assignment: Assignment, began: float, usable: tuple[bytes, ...]) -> None:
        state, now = self._state, asyncio.get_running_loop().time()
        if state.link is None or state.assignment is None:
            return
        if assignment.policy.mode == "observe":
            self._forget()
        if not (usable or assignment.prefixes):
            return
        if state.assignment.generation != assignment.generation:
            return  # there is a newer one already
        site, subnet = state.link
        kept = Kept(
            assignment=assignment,
            site=site,
            subnet=subnet,
            usable=usable,
            since=int((self._now() - (now - began)) * MICROSECONDS),
            renew_after=_whole(state.renew_at - began),
            rebind_after=_whole(state.rebind_at - began),
        )
        try:
            self._directory.keep(self._interface, kept)
        except NodeStateError as error:
            _logger.error("assignment not kept for a restart", reason=str(error))

    async def recover(self) -> None:
        """Before anything else: go back from a change that was never proven, as its agent was killed meanwhile."""
        try:
            if await self._confirming.recover():
                _logger.warning("went back from a change that was never proven")
        except (KernelError, NodeStateError, OSError) as error:
            _logger.error("not rolled back", reason=str(error))

    async def restore(self) -> float:
        """After a restart: what was kept and is not over is applied again; the next session confirms it.

        Returns when that was, in seconds since 1970-01-01 UTC; 0: never.

        What cannot be read or applied is no reason not to live: an agent will assign anew.
        """
        try:
            kept = self._directory.kept(self._interface)
            if kept is None:
                return 0.0
        except NodeStateError as error:
            _logger.error("not restored", reason=str(error))
            return 0.0
        try:
            await self._apply_kept(kept)
        except (KernelError, NodeStateError, OSError) as error:
            _logger.error("not restored", reason=str(error))
        return kept.since / MICROSECONDS

    async def _apply_kept(self, kept: Kept) -> None:
        now = asyncio.get_running_loop().time()
        elapsed = self._now() - kept.since / MICROSECONDS
        if elapsed < 0:
            _logger.warning("the clock is not set: only permanent addresses are applied again")
            elapsed = float(1 << 32)
        assignment = remaining(kept.assignment, elapsed)
        if not assignment.addresses:
            return
        items = await self._application.apply(assignment, elapsed=0)
        usable = {item.address for item in items if item.outcome == USABLE}
        self._state.restore(
            kept.assignment,
            link=(kept.site, kept.subnet),
            until={
                address.address: math.inf if address.permanent else now + address.valid
                for address in assignment.addresses
                if address.address in usable
            },
            renew_at=now - elapsed + kept.renew_after,
            rebind_at=now - elapsed + kept.rebind_after,
        )
        self._state.declined(item.address for item in items if item.outcome == "duplicate")
        self._confirming.stands(kept.assignment)
        self._stood = self._state.assignment, dict(self._state.held)
        await self._settle(assignment, frozenset(map(family, usable)))

    async def _strip(self, why: Code) -> None:
        _logger.warning("not configured any more", why=why)
        assigned = self._state.assignment.addresses if why is Code.EXPIRED and self._state.assignment else ()
        await self._application.strip(keep={each.address for each in assigned if each.permanent})
        self._forget()
        await self._observe()

    def _forget(self) -> None:
        """There is nothing to apply after a restart."""
        try:
            self._directory.forget(self._interface)
            self._directory.end(self._interface)
        except NodeStateError as error:
            _logger.error("assignment not forgotten", reason=str(error))

    def look_soon(self) -> None:
        """See to what the kernel has, when nothing is being done to it."""
        if self._work.idle:  # what is being done tells at its end what became of it
            self._work.begin(self._look)

    async def _look(self) -> None:
        await self._repair()
        if self._draining is not None:
            await self._settle(*self._draining)
        await self._observe()

    def _look_at(self, when: float) -> None:
        """Look then, if not before."""
        loop = asyncio.get_running_loop()
        if self._later is not None and loop.time() < self._later.when() <= when:
            return
        if self._later is not None:
            self._later.cancel()
        self._later = loop.call_at(when, self.look_soon)

    async def _repair(self) -> None:
        """See to what the kernel lost, with a link that went down or by another program, and what others brought."""
        now = asyncio.get_running_loop().time()
        wanted = held_now(self._state, now)
        if wanted is None:
            return
        verdict = await self._repairing.look(wanted, draining=self._draining is not None, now=now)
        if verdict.wait:
            self._look_at(now + verdict.wait)
        if verdict.items:
            rival = ", ".join(each.name for each in await self._application.rivals(wanted.policy))
            what = [f"{item.kind} {item.name} {item.change}" for item in verdict.items]
            _logger.warning("changed by somebody else", what=what, action=verdict.action, rival=rival)
            self._repairing.note(verdict, wanted, rival)
        if verdict.restore:
            await self._restore(wanted)

    async def _restore(self, wanted: Assignment) -> None:
        """Apply again what the node should have. KernelError."""
        items = await self._application.apply(wanted, elapsed=0, going=self._going)
        usable = (item.address for item in items if item.outcome == USABLE)
        await self._settle(wanted, frozenset(map(family, usable)))
        # What was refused is tried again; what another took meanwhile is not the node's any more.
        duplicates = tuple(item.address for item in items if item.outcome == "duplicate")
        if duplicates and self._session is not None:
            self._session.declined(duplicates, asyncio.get_running_loop().time())
        elif duplicates:
            self._state.declined(duplicates)

    async def _observe(self) -> None:
        """Tell the agent what the node has, where it has changed since it was told last."""
        session = self._session
        if session is None or self._pump is None or self._observed is None:
            return
        snapshot = await self._application.snapshot()
        if session is self._session:
            if self._repairing.tell(session):
                self._pump.wake()
            self._tell(snapshot)

    def _going(self, snapshot: Snapshot) -> None:
        """Addresses of this are about to be removed: who asks later who had them finds them in the log."""
        self._tell(snapshot, lasting=True)

    def _tell(self, snapshot: Snapshot, *, lasting: bool = False) -> None:
        session, pump, observed = self._session, self._pump, self._observed
        if session is None or pump is None or observed is None:
            return
        if difference(observed, snapshot) != NO_DIFFERENCE:
            self._observed = snapshot
            session.observe(snapshot, asyncio.get_running_loop().time(), lasting=lasting)
        pump.wake()


def _extended(assignment: Assignment | None, extended: heard.Extended) -> Assignment | None:
    """The assignment with its lifetimes begun anew."""
    if assignment is None:
        return None
    addresses = tuple(
        address
        if address.permanent
        else msgspec.structs.replace(address, preferred=extended.preferred, valid=extended.valid)
        for address in assignment.addresses
    )
    prefixes = tuple(
        msgspec.structs.replace(each, preferred=extended.preferred, valid=extended.valid)
        for each in assignment.prefixes
    )
    return msgspec.structs.replace(assignment, addresses=addresses, prefixes=prefixes)


def _all(assignment: Assignment, outcome: str) -> tuple[AppliedItem, ...]:
    return tuple(AppliedItem(address=each.address, outcome=outcome) for each in assignment.addresses)


def _usable(items: Iterable[AppliedItem]) -> bool:
    return any(item.outcome == USABLE for item in items)


def _whole(seconds: float) -> int:
    return FOREVER if math.isinf(seconds) else max(1, int(seconds))
