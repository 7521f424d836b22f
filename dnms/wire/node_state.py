"""What a node holds on one link. It outlives every connection: a node keeps its configuration while no agent answers.

The state of a client is one boolean, *configured*, with three instants (RFC 8415, 14.2 and 18.2): T1, T2 and the end of
what it holds. Instants are seconds of the node's monotonic clock. While there is a session, it drives the state that it
was given; without one, the shell does: `deadline`, `tick`, `events`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import msgspec

from dnms.events.configuration import AssignedAddress, Assignment, Generation
from dnms.events.ip import family
from dnms.events.seen import AppliedItem
from dnms.wire.errors import Code, PeerError
from dnms.wire.messages import FOREVER, MIN_T1, Assign, Association, Binding, Extended

USABLE = "usable"
ROLLED_BACK = "rolled-back"
"""Outcomes of an assigned address: the kernel lets the node use it; the node went back to what it had before."""


class Held(msgspec.Struct, frozen=True):
    """A usable address: its binding, and when it ends."""

    iaid: int
    until: float


class Unconfigured(msgspec.Struct, frozen=True):
    """The node is not configured any more: strip what was assigned, but permanent addresses where it `expired`."""

    why: Code  # expired, not-on-link, released


class NodeState:
    """The newest assignment, which of its addresses are usable, and until when."""

    def __init__(self) -> None:
        self.assignment: Assignment | None = None
        self.link: tuple[str, str] | None = None  # site and subnet that the assignment is of
        self.held: dict[bytes, Held] = {}  # by address
        self.declining: dict[bytes, int] = {}  # duplicates that no agent has replaced yet
        self.registered = b""  # digest of the configuration that an agent has confirmed last
        self.renew_at = math.inf  # T1
        self.rebind_at = math.inf  # T2
        self._ends: dict[bytes, float] = {}  # of the assignment's addresses
        self._beyond: frozenset[bytes] = (
            frozenset()
        )  # of these, what the agent does not speak of: it was rolled back to
        self._events: list[Unconfigured] = []

    @property
    def configured(self) -> bool:
        """Whether it holds a usable address."""
        return bool(self.held)

    @property
    def has_prefixes(self) -> bool:
        """Whether prefixes are delegated to it."""
        return self.assignment is not None and bool(self.assignment.prefixes)

    def restore(
        self,
        assignment: Assignment,
        *,
        link: tuple[str, str],
        until: Mapping[bytes, float],
        renew_at: float,
        rebind_at: float,
    ) -> None:
        """After a reboot: what was stored and is applied again, and when each address ends. A confirm comes next."""
        self.assignment, self.link = assignment, link
        self.renew_at, self.rebind_at = renew_at, rebind_at
        self._ends = dict(until)
        self._hold(until)

    def generation(self, link: tuple[str, str]) -> Generation | None:
        """Of what it has from this site and subnet; positions of other logs and ledgers do not compare."""
        return self.assignment.generation if self.assignment is not None and self.link == link else None

    def take(self, assign: Assign, *, link: tuple[str, str], began: float) -> None:
        """An assignment came; its lifetimes count from `began`. PeerError `stale` or `malformed` if nothing changed."""
        _check_assign(assign)
        current = self.generation(link)
        if current is not None and assign.assignment.generation < current:
            raise PeerError(Code.STALE)
        self.assignment, self.link = assign.assignment, link
        self.renew_at, self.rebind_at = began + _seconds(assign.renew_after), began + _seconds(assign.rebind_after)
        self._ends = {
            address.address: math.inf if address.permanent else began + _seconds(address.valid)
            for address in assign.assignment.addresses
        }
        self._beyond = frozenset()
        self._prolong()
        self.declining = {address: iaid for address, iaid in self.declining.items() if address in self._ends}

    def extend(self, extended: Extended, *, began: float) -> None:
        """The lifetimes of all that it holds begin anew. PeerError `malformed` if nothing changed."""
        _check_times(extended.renew_after, extended.rebind_after)
        if extended.preferred > extended.valid:
            raise PeerError(Code.MALFORMED, "preferred for longer than valid")
        if not self.configured:
            return
        self.renew_at, self.rebind_at = began + _seconds(extended.renew_after), began + _seconds(extended.rebind_after)
        until = began + _seconds(extended.valid)
        for address, end in self._ends.items():
            if self.is_extended(address):
                self._ends[address] = max(end, until)
        self._prolong()

    def is_extended(self, address: bytes) -> bool:
        """Whether an extension of all that is held concerns this address too."""
        return address not in self._beyond

    def skip(self, seconds: float) -> None:
        """So much time has passed that the monotonic clock has not counted: the machine slept. Call `tick` after it."""
        self.renew_at -= seconds
        self.rebind_at -= seconds
        self._ends = {address: end - seconds for address, end in self._ends.items()}
        self.held = {address: Held(held.iaid, held.until - seconds) for address, held in self.held.items()}

    def applied(self, items: Iterable[AppliedItem]) -> None:
        """What became of the newest assignment."""
        items = tuple(items)
        if not any(item.outcome == ROLLED_BACK for item in items):
            self._hold(item.address for item in items if item.outcome == USABLE)

    def roll_back(self, to: Assignment | None, held: Mapping[bytes, Held]) -> None:
        """The newest assignment did not prove itself: the one before stands again, with what was held of it.

        It goes on under the newest generation, since what is older than that is stale all the same. What is in both
        ends as the newest says; the rest as it was told, and no extension concerns it, since the agent does not know
        that the node still has it.
        """
        if self.assignment is None:
            return
        newest = {address.address for address in self.assignment.addresses}
        generation = self.assignment.generation
        self.assignment = msgspec.structs.replace(to or Assignment(generation=generation), generation=generation)
        self.held = {
            address: Held(each.iaid, self._ends.get(address, each.until))
            for address, each in held.items()
            if self._assigned(address) is not None
        }
        self._ends = {address: each.until for address, each in self.held.items()}
        self._beyond = frozenset(self._ends.keys() - newest)

    def declined(self, addresses: Iterable[bytes]) -> None:
        """These are in use by another."""
        for address in addresses:
            assigned = self._assigned(address) or self.held.get(address)
            self.held.pop(address, None)
            if assigned is not None:
                self.declining[address] = assigned.iaid

    def lose(self, why: Code) -> None:
        """What it holds is over. After `expired` it still says what it had, and may get it back."""
        was = self.configured
        self.held.clear()
        self.renew_at = self.rebind_at = math.inf
        if why is not Code.EXPIRED:
            self.assignment, self.link = None, None
            self._ends.clear()
            self.declining.clear()
        if was:
            self._events.append(Unconfigured(why))

    def bindings(self) -> tuple[Binding, ...]:
        """What it holds, as messages say it."""
        return tuple(Binding(iaid=held.iaid, address=address) for address, held in self.held.items())

    def declines(self) -> tuple[Binding, ...]:
        """What it has to decline."""
        return tuple(Binding(iaid=iaid, address=address) for address, iaid in self.declining.items())

    def hinted(self, association: Association) -> Association:
        """The association with the address that it has, or had."""
        had = self.assignment.addresses if self.assignment is not None else ()
        for address in had:
            if address.iaid == association.iaid and family(address.address) == association.family:
                return msgspec.structs.replace(association, held=address.address)
        return association

    def serves(self, association: Association) -> bool:
        """Whether it holds an address of this association."""
        return any(
            held.iaid == association.iaid and family(address) == association.family
            for address, held in self.held.items()
        )

    def deadline(self) -> float | None:
        """When to call `tick`: an address ends. T1 and T2 concern sessions."""
        first = min((held.until for held in self.held.values()), default=math.inf)
        return None if math.isinf(first) else first

    def tick(self, now: float) -> None:
        """Time passed. The kernel drops each address at its end by itself; the last one is worth an event."""
        left = {address: held for address, held in self.held.items() if held.until > now}
        if self.held and not left:
            self.lose(Code.EXPIRED)
        self.held = left

    def events(self) -> list[Unconfigured]:
        """What happened since the last call."""
        events, self._events = self._events, []
        return events

    def _assigned(self, address: bytes) -> AssignedAddress | None:
        addresses = self.assignment.addresses if self.assignment is not None else ()
        return next((assigned for assigned in addresses if assigned.address == address), None)

    def _hold(self, usable: Iterable[bytes]) -> None:
        self.held = {}
        for address in usable:
            assigned = self._assigned(address)
            if assigned is not None:
                self.held[address] = Held(assigned.iaid, self._ends.get(address, math.inf))

    def _prolong(self) -> None:
        for address, held in self.held.items():
            self.held[address] = Held(held.iaid, self._ends.get(address, held.until))


def _seconds(lifetime: int) -> float:
    return math.inf if lifetime == FOREVER else lifetime


def _check_times(renew_after: int, rebind_after: int) -> None:
    if not MIN_T1 <= renew_after <= rebind_after:
        raise PeerError(Code.MALFORMED, f"T1 {renew_after}, T2 {rebind_after}")


def _check_assign(assign: Assign) -> None:
    _check_times(assign.renew_after, assign.rebind_after)
    for address in assign.assignment.addresses:
        if not 0 <= address.preferred <= address.valid <= FOREVER or not 0 <= address.prefix_length <= 128:
            raise PeerError(Code.MALFORMED, "an address with lifetimes or a prefix length that cannot be")
    for each in assign.assignment.prefixes:
        if not 0 <= each.preferred <= each.valid <= FOREVER or not 0 < each.prefix.length <= 64:
            raise PeerError(Code.MALFORMED, "a prefix with lifetimes or a length that cannot be")
