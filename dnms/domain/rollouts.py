"""A plan that has nodes told something else reaches them in waves: canaries, then parts of all, each after the proof.

Theory of operation. A ledger that adopts such a plan keeps what nodes were told before it beside what they are told by
it. Which nodes are told the new is in the ledger, before anybody tells them: an agent asks for those that it has
sessions with, and the ledger admits as many canaries as the plan wants, first come, first served, and then the part of
all that a hash of the client and the plan picks. What a node says that became of it is in the ledger too. So any
number of agents agree, and the next step happens once: when all that were told have proven it and the pause is over.
The first node that cannot take it stops the rollout. An operator goes on, or puts all back to what they had.

It is about what is told beside addresses, which have a make before break of their own (see `leaving`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, MutableMapping
from typing import TYPE_CHECKING, Final, Literal

import msgspec

from dnms.domain.adopted import Adopted
from dnms.domain.aggregate import Refused
from dnms.events.plan import AdoptedPlan, Dhcp, Rollout, Stateless
from dnms.events.recorded import Event
from dnms.events.requests import AdvanceRollout, ProveRollout, SteerRollout, StopRollout, TellRollout
from dnms.events.rollout import (
    RolloutAborted,
    RolloutAdvanced,
    RolloutBegun,
    RolloutEnded,
    RolloutPaused,
    RolloutProven,
    RolloutResumed,
    RolloutStopped,
    RolloutTold,
)
from dnms.kit.clock import MICROSECONDS
from dnms.kit.overlay import overlaid

if TYPE_CHECKING:
    from dnms.domain.ledger import Ledger

MAX_FORMER: Final = 8
"""Plans that nodes of one subnet are told something of at once. Who applies one after the other, each before the last
has reached everybody, comes to an end of it: finish a rollout, or abort it."""

Status = Literal["running", "paused", "stopped", "aborted"]

Steered = RolloutPaused | RolloutResumed | RolloutAborted
Happened = RolloutBegun | RolloutTold | RolloutProven | RolloutAdvanced | RolloutStopped | RolloutEnded | Steered
Asked = TellRollout | ProveRollout | StopRollout | AdvanceRollout | SteerRollout

DEFAULT: Final = Rollout()
"""Where a plan has taken the waves away in the middle."""


class Since(msgspec.Struct, frozen=True, array_like=True):
    """When something became so, and in which commit; 0 in a draft."""

    at: int
    position: int


class RolloutDump(msgspec.Struct, frozen=True, kw_only=True):
    """All of it."""

    position: int
    status: Status
    wave: int
    since: int
    stopped: tuple[bytes, str]
    proven: int
    proven_here: int
    former: tuple[AdoptedPlan, ...]
    of: dict[bytes, int]
    told: dict[bytes, Since]
    unproven: dict[bytes, None]


class RollingOut:
    """The rollout of one ledger."""

    def __init__(self, position: int, at: int) -> None:
        self.position = position  # of the plan that it brings
        self.status: Status = "running"
        self.wave = 0
        self.since = at  # of the last step or proof, in microseconds
        self.stopped = b"", ""  # by which client, and why
        self.proven = self.proven_here = 0  # nodes: in all, and of this wave
        self.former: tuple[Adopted, ...] = ()  # what nodes are told that are not told the new, from old to newer
        self.of: MutableMapping[bytes, int] = {}  # by client which of these; the others: the oldest
        self.told: MutableMapping[bytes, Since] = {}  # by client: who is told the new, since when
        self.unproven: MutableMapping[bytes, None] = {}  # of these, whose proof is waited for

    def draft(self) -> RollingOut:
        """A copy that may be thrown away."""
        draft = RollingOut(self.position, self.since)
        draft.status, draft.wave, draft.stopped, draft.former = self.status, self.wave, self.stopped, self.former
        draft.proven, draft.proven_here = self.proven, self.proven_here
        draft.of, draft.told, draft.unproven = overlaid(self.of), overlaid(self.told), overlaid(self.unproven)
        return draft

    def dump(self) -> RolloutDump:
        """All of it."""
        return RolloutDump(
            position=self.position,
            status=self.status,
            wave=self.wave,
            since=self.since,
            stopped=self.stopped,
            proven=self.proven,
            proven_here=self.proven_here,
            former=tuple(each.plan for each in self.former),
            of=dict(self.of),
            told=dict(self.told),
            unproven=dict(self.unproven),
        )

    @classmethod
    def load(cls, dump: RolloutDump) -> RollingOut:
        """What was dumped."""
        found = cls(dump.position, dump.since)
        found.status, found.wave, found.stopped = dump.status, dump.wave, dump.stopped
        found.proven, found.proven_here = dump.proven, dump.proven_here
        found.former = tuple(map(Adopted, dump.former))
        found.of, found.told, found.unproven = dict(dump.of), dict(dump.told), dict(dump.unproven)
        return found

    def former_of(self, client: bytes) -> Adopted | None:
        """By which former plan the client is told what it is told; None: by the new one."""
        return None if client in self.told else self.former[self.of.get(client, 0)]

    def admitted(self, clients: Iterable[bytes], waves: Rollout) -> tuple[bytes, ...]:
        """Those of these clients that may be told the new now, and are not yet; of canaries the first."""
        if self.status != "running":
            return ()
        others = dict.fromkeys(client for client in clients if client not in self.told)
        percent = self.percent(waves)
        if percent is None:
            return tuple(others)[: max(0, waves.canaries - len(self.told))]
        return tuple(client for client in others if share(client, self.position) < percent)

    def percent(self, waves: Rollout) -> int | None:
        """How many of a hundred nodes are in the waves so far; None: canaries alone."""
        if waves.canaries and not self.wave:
            return None
        return waves.waves[min(self.wave - bool(waves.canaries), len(waves.waves) - 1)]

    def is_proven(self, waves: Rollout, at: int) -> bool:
        """Whether what was told is proven, or not waited for any longer, and has been so for the pause."""
        if self.status != "running" or at < self.since + waves.pause * MICROSECONDS:
            return False
        if self.percent(waves) is None and not self.told:
            return False  # nobody has come yet that could be the canary
        return not self.unproven or (self.is_late_alone(waves, at) and not self.silent(waves, at))

    def is_late_alone(self, waves: Rollout, at: int) -> bool:
        """Whether all that are waited for have been silent for too long."""
        return all(self.told[client].at + waves.within * MICROSECONDS <= at for client in self.unproven)

    def silent(self, waves: Rollout, at: int) -> bytes | None:
        """A node whose silence stops it: of a canary, or where nobody of a wave has said a word."""
        if self.status != "running" or not (self.percent(waves) is None or not self.proven_here):
            return None
        late = (c for c in self.unproven if self.told[c].at + waves.within * MICROSECONDS <= at)
        return min(late, default=None)


def share(client: bytes, position: int) -> float:
    """Where the client stands among all, by a hash of it and of the plan: from 0 to below 100."""
    digest = hashlib.blake2b(client, key=position.to_bytes(8), digest_size=4).digest()
    return int.from_bytes(digest) * 100 / (1 << 32)


def told(ledger: Ledger, client: bytes, group: int) -> Stateless:
    """All that a member of the group (a number; 0: of none) is told beside its addresses."""
    former = None if ledger.rollout is None else ledger.rollout.former_of(client)
    return (former or ledger.adopted).stateless(group)


def waves_of(plan: AdoptedPlan) -> Rollout:
    """The waves in which a plan goes out."""
    return (plan.subnet.rollout if plan.subnet is not None else None) or DEFAULT


# -- decide ------------------------------------------------------------------------------------------------------------


def begin(ledger: Ledger, plan: AdoptedPlan) -> Iterator[Event]:
    """What has to happen before `plan` is adopted. Refused `too-many-rollouts`."""
    now = ledger.rollout
    is_same = _what(plan) == _what(ledger.plan)
    if plan.subnet is None or ledger.plan.subnet is None or plan.subnet.rollout is None:
        is_at_once = True
    else:  # of a renumbered link each node needs the new gateways as soon as it has a new address
        is_at_once = plan.subnet.prefixes != ledger.plan.subnet.prefixes
    goes_back = now is not None and now.status == "aborted" and [_what(plan)] == [_what(a.plan) for a in now.former]
    if now is not None and (is_at_once or goes_back):
        yield RolloutEnded(position=now.position, why="replaced")
    elif not is_same and not is_at_once and (now is not None or ledger.leases):
        if now is not None and len(now.former) >= MAX_FORMER:
            text = f"nodes are told something of {MAX_FORMER} plans already; finish the rollout, or abort it"
            raise Refused("too-many-rollouts", text)
        yield RolloutBegun(position=plan.position)


def decide(ledger: Ledger, request: Asked, *, at: int) -> Iterator[Event]:
    """What comes of what agents report, and of what operators want. Refused `no-rollout`, `not-running`."""
    now, waves = ledger.rollout, waves_of(ledger.plan)
    if isinstance(request, SteerRollout):
        yield _steered(now, request)
        return
    if now is None or request.position != now.position or now.status != "running":
        return  # it is over, or another one: who reports hears of it
    match request:
        case TellRollout():
            if admitted := now.admitted(request.clients, waves):
                yield RolloutTold(position=now.position, clients=admitted)
        case ProveRollout():
            if proven := tuple(dict.fromkeys(client for client in request.clients if client in now.unproven)):
                yield RolloutProven(position=now.position, clients=proven)
        case StopRollout():
            is_so = request.client == now.silent(waves, at) if request.why == "silent" else request.client in now.told
            if is_so:
                yield RolloutStopped(position=now.position, client=request.client, why=request.why)
        case AdvanceRollout():
            if request.wave != now.wave or not now.is_proven(waves, at):
                return
            if now.percent(waves) == 100:
                yield RolloutEnded(position=now.position, why="proven")
            else:
                yield RolloutAdvanced(position=now.position, wave=now.wave + 1)


def _steered(now: RollingOut | None, request: SteerRollout) -> Steered:
    if now is None or now.status == "aborted":
        raise Refused("no-rollout", "nothing is rolled out on this subnet")
    match request.to:
        case "pause" if now.status == "running":
            return RolloutPaused(position=now.position)
        case "resume" if now.status != "running":
            return RolloutResumed(position=now.position)
        case "abort":
            return RolloutAborted(position=now.position)
    raise Refused("not-running" if request.to == "pause" else "running", f"the rollout is {now.status}")


def _what(plan: AdoptedPlan) -> tuple[object, ...]:
    """What a plan has nodes told beside their addresses."""
    subnet = plan.subnet
    if subnet is None:
        return ()
    items = ("gateways", "routes", "dns", "search", "ntp", "mtu", "policy")
    of_groups = (_without_dhcp(each) for each in (subnet.groups, plan.stateless))
    return *(getattr(subnet, item) for item in items), *of_groups, plan.groups


def _without_dhcp(groups: Mapping[str, Stateless]) -> dict[str, Stateless]:
    """What nodes with an agent are told."""
    told = {name: msgspec.structs.replace(each, dhcp=Dhcp()) for name, each in groups.items()}
    return {name: each for name, each in told.items() if each != Stateless()}


# -- evolve ------------------------------------------------------------------------------------------------------------


def evolve(ledger: Ledger, event: Happened, *, at: int, position: int) -> None:  # noqa: PLR0912  # one case an event
    """Take in one event."""
    now = ledger.rollout
    if isinstance(event, RolloutBegun):
        ledger.rollout = _begun(ledger, event, at)
    elif isinstance(event, RolloutEnded):
        ledger.rollout = None
    elif now is not None:
        match event:
            case RolloutTold():
                for client in event.clients:
                    now.told[client], now.unproven[client] = Since(at, position), None
            case RolloutProven():
                for client in event.clients:
                    now.unproven.pop(client, None)
                now.proven += len(event.clients)
                now.proven_here += len(event.clients)
            case RolloutAdvanced():
                now.wave, now.proven_here = event.wave, 0
                now.unproven.clear()
            case RolloutStopped():
                now.status, now.stopped = "stopped", (event.client, event.why)
            case RolloutPaused():
                now.status = "paused"
            case RolloutResumed():
                if now.status == "stopped":
                    now.unproven.clear()
                now.status, now.stopped = "running", (b"", "")
            case RolloutAborted():
                now.status = "aborted"
                now.told.clear()
                now.unproven.clear()
        now.since = at


def _begun(ledger: Ledger, event: RolloutBegun, at: int) -> RollingOut:
    """Who was told something of the plan before goes on with it, and the others with what they had."""
    begun, before = RollingOut(event.position, at), ledger.rollout
    if before is not None:
        begun.former, begun.of = before.former, dict(before.of)
    if before is None or before.told:
        plan = msgspec.structs.replace(ledger.plan, pools=(), reservations=(), ranges={})
        begun.of.update(dict.fromkeys(before.told if before is not None else (), len(begun.former)))
        begun.former = (*begun.former, Adopted(plan))
    return begun
