"""Another plan over real history: what was asked from some place in the log on, decided under a plan of today.

Who came and went, and when, is as it was: the recorded requests. What each was given is decided anew, and the decisions
after it stand on that. A client that holds another address than it had renews that one; one that holds none asks anew
where it renewed; whose lease expired, its lease ends here too. Only states are held: memory follows what is held, and
not how long the log is.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Final, cast

import msgspec

from dnms.domain.aggregate import Refused
from dnms.domain.allocating import withdrawn
from dnms.domain.assignment import group_of
from dnms.domain.forecast import room
from dnms.domain.ledger import Ledger
from dnms.domain.nodes import Node
from dnms.domain.plan import PlanState
from dnms.domain.replay import Replay
from dnms.domain.strategies import ENTROPY
from dnms.events import subjects
from dnms.events.address import AddressExpired
from dnms.events.commit import Decision, Stored
from dnms.events.ip import family, format_address
from dnms.events.plan import Family
from dnms.events.recorded import Event, Personal, Request
from dnms.events.requests import (
    AdoptPlan,
    AllocateAddress,
    ApplyPlan,
    DeclineAddress,
    ExpireAddresses,
    HoldAddress,
    MoveAddress,
    ReleaseAddress,
    RenewAddress,
    WithdrawAddress,
)

MAX_NAMED: Final = 20
"""Differences of a kind that are named and not only counted."""

NEVER: Final = 253_402_300_800 * 1_000_000
"""The year 10000 in microseconds: what would run out then, such as a /64, does not."""

_Bound = RenewAddress | ReleaseAddress | DeclineAddress | MoveAddress | WithdrawAddress
_BOUND: Final = (RenewAddress, ReleaseAddress, DeclineAddress, MoveAddress, WithdrawAddress)

_Binding = tuple[bytes, int, int]


class Move(msgspec.Struct, frozen=True, kw_only=True):
    """A client that would have another address than it had."""

    client: str  # its id in hex
    node: str  # its name, or empty
    subnet: str
    had: str
    would_have: str
    at: int  # microseconds since 1970-01-01 UTC


class Refusal(msgspec.Struct, frozen=True, kw_only=True):
    """A client that was granted something, and would have been refused."""

    client: str
    node: str
    subnet: str
    request: str
    why: str  # the stable word
    at: int  # microseconds since 1970-01-01 UTC


class PoolHistory(msgspec.Struct, frozen=True, kw_only=True):
    """A pool of the other plan. Instants are microseconds since 1970-01-01 UTC; None: never."""

    pool: str
    subnet: str
    size: int
    held_first: int  # when the plan was in force
    held_most: int
    held_last: int
    exhausted_at: int | None  # in that history: nothing was left, or somebody was refused for that
    runs_out_at: int | None  # if it goes on to grow as it did on the average since the beginning


class Imagined(msgspec.Struct, frozen=True, kw_only=True):
    """What the other plan would have done. Of moves and refusals the first are named, up to MAX_NAMED."""

    sequence: int  # of the first commit that was decided anew; 0: there is none
    last: int  # of the last commit
    since: int  # microseconds since 1970-01-01 UTC
    until: int
    decisions: int
    otherwise: int  # of those, how many come to other events or another refusal
    withdrawn: int  # leases that would have ended when the plan came
    moved: int  # clients
    refused: int  # clients that were granted what they would have been refused
    granted: int  # clients that were refused what they would have been granted
    moves: tuple[Move, ...]
    refusals: tuple[Refusal, ...]
    pools: tuple[PoolHistory, ...]


class WhatIf:
    """Takes a log from its first commit; from `begin` on, another plan is in force."""

    def __init__(self, site: str, secret: bytes, *, opened: Callable[[Personal], Personal] = lambda name: name) -> None:
        """`secret` is the site's, 32 bytes: it keys the hash strategy. `opened` unseals names, as far as it can."""
        self._opened = opened
        self._ledgers_begin = subjects.ledger(site, "")
        self._plan_subject = subjects.plan(site)
        self.replay = Replay(site, secret)
        self._plan: PlanState | None = None
        self._since = self._until = self._sequence = self._last = 0
        self._held: Counter[tuple[str, str]] = Counter()  # by subnet and pool of the other plan
        self._most: Counter[tuple[str, str]] = Counter()
        self._first: Counter[tuple[str, str]] = Counter()
        self._exhausted: dict[tuple[str, str], int] = {}
        self._sizes: dict[tuple[str, str], int] = {}
        self._adopted: set[str] = set()
        self._decisions = self._otherwise = self._withdrawn = 0
        self._moved: set[bytes] = set()
        self._refused: set[bytes] = set()
        self._granted: set[bytes] = set()
        self._moves: list[Move] = []
        self._refusals: list[Refusal] = []

    @property
    def begun(self) -> bool:
        """Whether the other plan is in force."""
        return self._plan is not None

    def named(self, who: str) -> bytes:
        """The client of the node with this name, as of now; ValueError if there is none, or are several."""
        found = [
            client
            for shard in self.replay.shards.values()
            for client, node in shard.nodes.items()
            if not node.joined and self._said(node) == who
        ]
        if len(found) != 1:
            raise ValueError(f"{len(found) or 'no'} nodes were named {who!r} then; give the client id, 32 hex digits")
        return found[0]

    def begin(self, wanted: ApplyPlan, *, at: int) -> None:
        """Put the other plan in force at this instant (microseconds). Refused `invalid-plan`, `level`."""
        plan = PlanState()
        now = self.replay.plan
        plan.load(now.document(), now.position)
        for event in plan.decide(wanted, at=at, entropy=bytes(wanted.ENTROPY)):
            plan.evolve(event, at=at, position=now.position)
        plan.position = now.position + 1  # newer than what the ledgers have
        self._plan, self._since, self._until = plan, at, at
        for pool in plan.pools.values():
            self._sizes[pool.subnet, pool.name] = room(pool, plan.subnets.get(pool.subnet))
        for subject in self.replay.ledgers:
            self._adopt(subject, at=at)
        self._first = Counter(self._held)

    def take(self, stored: Stored) -> None:
        """Take in the next commit: as it is, or, once another plan is in force, as it would have been. Unfoldable."""
        self._last = stored.sequence
        if self._plan is None:
            self.replay.take(stored)
            return
        self._sequence = self._sequence or stored.sequence
        self._until = max(self._until, stored.commit.time)
        if stored.subject == self._plan_subject:
            return  # the other plan stays in force
        if not stored.subject.startswith(self._ledgers_begin):
            self.replay.take(stored)
            return
        self._adopt(stored.subject, at=stored.commit.time)
        for decision in stored.commit.decisions:
            events = stored.commit.events[decision.first : decision.first + decision.count]
            self._again(stored, decision, events)

    def result(self) -> Imagined:
        """What has come of it so far."""
        pools = self._plan.pools.values() if self._plan is not None else ()
        return Imagined(
            sequence=self._sequence,
            last=self._last,
            since=self._since,
            until=self._until,
            decisions=self._decisions,
            otherwise=self._otherwise,
            withdrawn=self._withdrawn,
            moved=len(self._moved),
            refused=len(self._refused),
            granted=len(self._granted),
            moves=tuple(self._moves),
            refusals=tuple(self._refusals),
            pools=tuple(self._pool(pool.subnet, pool.name) for pool in pools),
        )

    def _said(self, node: Node) -> str:
        said = node.identity or node.entered
        return "" if said is None else self._opened(said.name).text

    def _pool(self, subnet: str, name: str) -> PoolHistory:
        key = subnet, name
        size, first, last = self._sizes[key], self._first[key], self._held[key]
        grown, runs_out = last - first, None
        if key not in self._exhausted and grown > 0:
            runs_out = self._until + (size - last) * (self._until - self._since) // grown
            if runs_out >= NEVER:
                runs_out = None
        return PoolHistory(
            pool=name,
            subnet=subnet,
            size=size,
            held_first=first,
            held_most=max(self._most[key], last),
            held_last=last,
            exhausted_at=self._exhausted.get(key),
            runs_out_at=runs_out,
        )

    def _ledger(self, subject: str) -> Ledger:
        return cast("Ledger", self.replay.state(subject))

    def _adopt(self, subject: str, *, at: int) -> None:
        """Have a ledger follow the other plan, once. Who loses an address, or is in another group, asks for another."""
        if subject in self._adopted or self._plan is None:
            return
        self._adopted.add(subject)
        subnet, ledger = subject.removeprefix(self._ledgers_begin), self._ledger(subject)
        before = {lease.address: lease for lease in ledger.leases.values()}
        adopting = AdoptPlan(plan=self._plan.for_subnet(subnet))
        while events := ledger.decide(adopting, at=at, entropy=b""):  # so many at a time
            for event in events:
                ledger.evolve(event, at=at, position=self._last + 1)
        for lease in ledger.leases.values():
            self._count(subnet, ledger, lease.address, 1, at=at)
        gone = [lease for lease in before.values() if lease.address not in ledger.leases]
        self._withdrawn += len(gone)
        drained = [
            lease
            for lease in before.values()
            if not lease.drained_at and lease.address in ledger.leases and ledger.leases[lease.address].drained_at
        ]
        other = [
            lease
            for lease in ledger.leases.values()
            if not lease.drained_at and self._group(lease.client, lease.group) != lease.group
        ]
        for lease in (*gone, *drained, *other):
            asking = AllocateAddress(
                client=lease.client,
                iaid=lease.iaid,
                family=_family(lease.address),
                group=self._group(lease.client, lease.group),
            )
            chance = _chance(b"", lease.client, lease.iaid, at)
            try:
                events = ledger.decide(asking, at=at, entropy=chance[: ledger.entropy(asking)])
            except Refused as refusal:
                self._would_refuse(subnet, asking, refusal.why, at=at)
                continue
            self._evolve(subnet, ledger, events, at=at)
            given = [each for each in events if each.NAME == "address.allocated"]
            if given:
                self._would_move(subnet, lease.client, lease.address, given[-1].address, at=at)  # type: ignore[attr-defined]
        for lease in drained:  # what is imagined of a client is where it would be when it has moved
            self._evolve(subnet, ledger, (withdrawn(lease),), at=at)

    def _again(self, stored: Stored, decision: Decision, recorded: tuple[Event, ...]) -> None:
        """Decide once more what was asked, as it would have been asked."""
        request, at = decision.request, decision.at
        if isinstance(request, AdoptPlan):
            return
        subnet, ledger = stored.subject.removeprefix(self._ledgers_begin), self._ledger(stored.subject)
        if isinstance(request, ExpireAddresses):  # when a node was not heard of any more is not for the plan to say
            self._evolve(subnet, ledger, tuple(self._expired(ledger, recorded)), at=at)
            return
        asked = self._asked(ledger, request)
        if asked is None:
            return
        self._decisions += 1
        entropy = decision.entropy + _chance(decision.entropy, getattr(request, "client", b""), 0, at)
        events: tuple[Event, ...] = ()
        refused: str | None = None
        try:
            events = ledger.decide(asked, at=at, entropy=entropy[: ledger.entropy(asked)])
        except Refused as refusal:
            refused = refusal.why
        self._evolve(subnet, ledger, events, at=at)
        if (events, refused) == (recorded, decision.refused):
            return
        self._otherwise += 1
        client = cast("bytes", getattr(request, "client", b""))
        if refused is not None and decision.refused is None:
            self._would_refuse(subnet, asked, refused, at=at)
        elif refused is None and decision.refused is not None:
            self._granted.add(client)
        had, has = _given(recorded), _given(events)
        for binding in had.keys() & has.keys():
            if had[binding] != has[binding]:
                self._would_move(subnet, binding[0], had[binding], has[binding], at=at)

    def _asked(self, ledger: Ledger, request: Request) -> Request | None:
        """The request of a client that has what it has here; None: it would not have come to that."""
        if isinstance(request, AllocateAddress):  # by the other plan it would have been offered something else
            return msgspec.structs.replace(request, group=self._group(request.client, request.group), offered=None)
        if isinstance(request, HoldAddress):
            return msgspec.structs.replace(request, group=self._group(request.client, request.group))
        if not isinstance(request, _BOUND):
            return request
        kind = _family(request.address)
        address = _mapped(ledger, request.client, request.iaid, request.address)
        if address is not None:
            return msgspec.structs.replace(request, address=address)
        if isinstance(request, RenewAddress):
            group = self._group(request.client, 0)
            return AllocateAddress(client=request.client, iaid=request.iaid, family=kind, group=group)
        return None

    def _expired(self, ledger: Ledger, recorded: tuple[Event, ...]) -> Iterator[Event]:
        for event in recorded:
            if isinstance(event, AddressExpired):
                address = _mapped(ledger, event.client, event.iaid, event.address)
                if address is not None:
                    yield AddressExpired(address=address, client=event.client, iaid=event.iaid)

    def _evolve(self, subnet: str, ledger: Ledger, events: tuple[Event, ...], *, at: int) -> None:
        for event in events:
            address = getattr(event, "address", None)
            before = address in ledger.leases
            ledger.evolve(event, at=at, position=self._last)
            after = address in ledger.leases
            if address is not None and before != after:
                self._count(subnet, ledger, address, 1 if after else -1, at=at)

    def _count(self, subnet: str, ledger: Ledger, address: bytes, change: int, *, at: int) -> None:
        pool = ledger.pool_of(address)
        if pool is None:
            return
        key = subnet, pool.name
        self._held[key] += change
        self._most[key] = max(self._most[key], self._held[key])
        if self._held[key] >= self._sizes.get(key, 1 << 128):
            self._exhausted.setdefault(key, at)

    def _group(self, client: bytes, number: int) -> int:
        """The number of a client's group in the other plan; of one of whom nothing is known, the one that it had."""
        assert self._plan is not None
        node = self._node(client)
        if node is not None and node.joined:
            node = self._node(node.joined) or node
        said = None if node is None else node.identity or node.entered
        if node is None or said is None:
            return number if any(group.number == number for group in self._plan.groups.values()) else 0
        values = [self._opened(each).value for each in (said.duid, *said.hardware)]
        duid, *hardware = [value if isinstance(value, bytes) else b"" for value in values]
        entered = node.entered.group if node.entered is not None else ""
        return group_of(self._plan, self._said(node), duid=duid, hardware=hardware, entered=entered)

    def _node(self, client: bytes) -> Node | None:
        shard = self.replay.shards.get(subjects.node(self._plan_subject.split(".")[1], client))
        return None if shard is None else shard.nodes.get(client)

    def _would_move(self, subnet: str, client: bytes, had: bytes, has: bytes, *, at: int) -> None:
        if client not in self._moved and len(self._moves) < MAX_NAMED and had != has:
            node = self._node(client)
            self._moves.append(
                Move(
                    client=client.hex(),
                    node="" if node is None else self._said(node),
                    subnet=subnet,
                    had=format_address(had),
                    would_have=format_address(has),
                    at=at,
                )
            )
        if had != has:
            self._moved.add(client)

    def _would_refuse(self, subnet: str, request: Request, why: str, *, at: int) -> None:
        client = cast("bytes", getattr(request, "client", b""))
        if why == "exhausted" and self._plan is not None:
            kind = getattr(request, "family", 0)
            for pool in self._plan.pools.values():
                if pool.subnet == subnet and family(pool.first) == kind:
                    self._exhausted.setdefault((subnet, pool.name), at)
        if client not in self._refused and len(self._refusals) < MAX_NAMED:
            node = self._node(client)
            self._refusals.append(
                Refusal(
                    client=client.hex(),
                    node="" if node is None else self._said(node),
                    subnet=subnet,
                    request=request.NAME,
                    why=why,
                    at=at,
                )
            )
        self._refused.add(client)


def _family(address: bytes) -> Family:
    return 4 if family(address) == 4 else 6


def _mapped(ledger: Ledger, client: bytes, iaid: int, address: bytes) -> bytes | None:
    """The address that a client holds here where it held this one: the same, or the one that took its place."""
    lease = ledger.leases.get(address)
    if lease is not None and (lease.client, lease.iaid) == (client, iaid):
        return address
    first = ledger.lease(client, iaid, family(address))
    return None if first is None else first.address


def _given(events: tuple[Event, ...]) -> dict[_Binding, bytes]:
    """What was allocated, by whom it is for."""
    return {
        (event.client, event.iaid, family(event.address)): event.address  # type: ignore[attr-defined]
        for event in events
        if event.NAME in ("address.allocated", "outage.granted")
    }


def _chance(drawn: bytes, client: bytes, iaid: int, at: int) -> bytes:
    """Random bytes where the history has none, since it decided by a plan that drew nothing; each time the same."""
    seed = b"%b%b%d/%d" % (drawn, client, iaid, at)
    return hashlib.blake2b(seed, digest_size=ENTROPY).digest()
