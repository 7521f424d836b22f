"""A log of half a year, seeded: nodes that come to their subnets every week or so, as the domain decides on them.

Plan, ledgers and shards of nodes are the real ones, and everything in their commits is what they decided. What an agent
sees (`seen`) is no decision; its events are made here of what the ledgers gave. Two times a day those who are there
leave a subnet and others come, a commit a subject, so that commits are as small as a calm site has them.

A log of n events is of n / 200 nodes and n / 10 000 subnets, and whatever n is, of about half a year.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator, Sequence
from typing import Final, TypeVar

from dnms.bus.port import Record
from dnms.domain.aggregate import Answer, Fold, Question, State, settle
from dnms.domain.document import from_toml
from dnms.domain.ledger import Ledger
from dnms.domain.nodes import NodeShard
from dnms.domain.plan import PlanState
from dnms.events import codec, subjects
from dnms.events.address import AddressAllocated
from dnms.events.commit import Commit, Stored
from dnms.events.configuration import Generation, InterfaceAddress, Link, Resolver, Route, Snapshot
from dnms.events.ip import MAPPED_BITS, family, parse_address, parse_prefix, prefix_of
from dnms.events.recorded import Event, Personal, Request
from dnms.events.requests import (
    AdoptPlan,
    AllocateAddress,
    DeclineAddress,
    ExpireAddresses,
    IdentifyNode,
    ReleaseAddress,
)
from dnms.events.seen import AppliedItem, ConfigurationApplied, ConfigurationRegistered, SessionClosed, SessionOpened
from dnms.kit.clock import MICROSECONDS

SITE: Final = "views"
AGENT: Final = "agent/east"
SECRET: Final = bytes(32)
IAID: Final = 2

BEGIN: Final = 1_767_225_600 * MICROSECONDS  # 2026-01-01
DAY: Final = 86_400 * MICROSECONDS
WAVES: Final = (8 * 3_600 * MICROSECONDS, 13 * 3_600 * MICROSECONDS)  # of the day: who is there leaves, others come
WAVE: Final = 3_600 * MICROSECONDS  # in which all subnets have theirs, one after the other
STORED: Final = 900  # microseconds after its time a commit is in the log

EVENTS_A_NODE: Final = 200
NODES_A_SUBNET: Final = 50
VISITS_A_DAY: Final = 1 / 8  # of a node

ELSEWHERE: Final = 0.03  # of the visits are to another subnet than one's own
RELEASED: Final = 0.1  # of the leases are given back at the end of a visit
DECLINED: Final = 0.002  # of the addresses are in use by somebody else

LOOPBACK = InterfaceAddress(interface=1, address=parse_address("::1"), prefix_length=128, origin="loopback")
DEFAULT = parse_prefix("::/0")
ROUTER = parse_address("fe80::1")
RESOLVER = parse_address("2001:db8::53")

S = TypeVar("S", bound=State)


class Node:
    """One of those that come."""

    __slots__ = ("client", "home", "identity", "link_local", "registered")

    def __init__(self, number: int, home: int, chance: random.Random) -> None:
        self.client = chance.randbytes(16)
        self.home = home
        hardware = b"\x02" + chance.randbytes(5)
        duid = Personal(b"\x00\x04" + chance.randbytes(16))  # DUID-UUID, RFC 8415, 11.5
        self.identity = (duid, Personal(f"node-{number:06d}"), Personal(hardware))
        self.link_local = b"\xfe\x80" + bytes(6) + chance.randbytes(8)


class _Seen:
    """A subject without decisions."""

    def __init__(self, subject: str) -> None:
        self.subject = subject
        self.last = 0  # sequence of its newest commit


class Visits:
    """The log, record by record."""

    def __init__(self, events: int, *, seed: int = 0) -> None:
        """`events`: how many it has after half a year."""
        self.events = 0  # so far
        self.sequence = 0
        self.today = 0  # days since the first
        self._chance = random.Random(seed)
        count = max(NODES_A_SUBNET, events // EVENTS_A_NODE)
        self.subnets = [f"net{number:04d}" for number in range(max(1, count // NODES_A_SUBNET))]
        self.nodes = [Node(number, number % len(self.subnets), self._chance) for number in range(count)]
        self._plan = Fold(PlanState())
        self._ledgers = [Fold(Ledger(SECRET)) for _ in self.subnets]
        self._seen = [_Seen(subjects.seen(SITE, name, "east")) for name in self.subnets]
        self._shards: dict[int, Fold[NodeShard]] = {}
        self._there: list[list[Node]] = [[] for _ in self.subnets]

    def plan(self) -> str:
        """The plan, in TOML: a /64 and a /24 a subnet."""
        lines = [f'[site]\nname = "{SITE}"']
        for number, name in enumerate(self.subnets):
            v6, v4 = f"2001:db8:0:{number:x}::", f"10.{number >> 8}.{number & 255}"
            lines.append(
                f'[[subnet]]\nname = "{name}"\nprefixes = ["{v6}/64", "{v4}.0/24"]\ngateways = ["fe80::1", "{v4}.1"]\n'
                f'[[pool]]\nname = "{name}-v6"\nsubnet = "{name}"\nrange = "{v6}/64"\n'
                f'[[pool]]\nname = "{name}-v4"\nsubnet = "{name}"\nrange = "{v4}.2-{v4}.254"\n'
                "preferred = 172800\nvalid = 345600\n"
            )
        return "\n".join(lines)

    def records(self) -> Iterator[Record]:
        """All of it, without an end: whoever reads stops when it has enough."""
        at = BEGIN
        made, _ = self._settle(self._plan, [from_toml(self.plan())], at, subjects.plan(SITE), "operator/bench")
        yield from made
        for index, name in enumerate(self.subnets):
            made, _ = self._decide(index, [AdoptPlan(plan=self._plan.state.for_subnet(name))], at + index)
            yield from made
        while True:
            self.today += 1
            for wave in WAVES:
                coming = self._who_comes()
                for index in range(len(self.subnets)):
                    at = BEGIN + self.today * DAY + wave + index * WAVE // len(self.subnets)
                    yield from self._wave(index, coming.get(index, []), at)

    def _who_comes(self) -> dict[int, list[Node]]:
        """By subnet; who is there already stays there until the next wave, and does not come again."""
        chance, coming = self._chance, dict[int, list[Node]]()
        visits = round(len(self.nodes) * VISITS_A_DAY / len(WAVES))
        for node in chance.sample(self.nodes, visits):
            index = chance.randrange(len(self.subnets)) if chance.random() < ELSEWHERE else node.home
            coming.setdefault(index, []).append(node)
        return coming

    def _wave(self, index: int, coming: Sequence[Node], at: int) -> Iterator[Record]:
        chance, ledger, seen = self._chance, self._ledgers[index], self._seen[index]
        if leaving := self._there[index]:
            yield self._write(seen, [SessionClosed(client=node.client, why="bye") for node in leaving], at)
            back = [
                ReleaseAddress(client=node.client, iaid=IAID, address=lease.address)
                for node in leaving
                for kind in (6, 4)
                if chance.random() < RELEASED and (lease := ledger.state.lease(node.client, IAID, kind)) is not None
            ]
            made, _ = self._decide(index, back, at + 1)
            yield from made
        if due := ledger.state.due(at, 1_000):
            made, _ = self._decide(index, [ExpireAddresses(addresses=due)], at + 2)
            yield from made
        self._there[index] = list(coming)
        if coming:
            yield from self._identify(index, coming, at + 3)
            peers = [SessionOpened(client=node.client, peer=node.link_local) for node in coming]
            registered = [_registered(node, ()) for node in coming]
            yield self._write(seen, [event for pair in zip(peers, registered, strict=True) for event in pair], at + 3)
            yield from self._give(index, coming, at + 4)
            yield self._write(seen, list(self._applied(index, coming)), at + 5)

    def _identify(self, index: int, coming: Sequence[Node], at: int) -> Iterator[Record]:
        by_shard: dict[int, list[Request]] = {}
        for node in coming:
            duid, name, hardware = node.identity
            request = IdentifyNode(
                client=node.client,
                duid=duid,
                name=name,
                subnet=self.subnets[index],
                hardware=(hardware,),
                kernel="6.1.0",
            )
            by_shard.setdefault(node.client[0], []).append(request)
        for shard, requests in by_shard.items():
            fold = self._shards.setdefault(shard, Fold(NodeShard()))
            made, _ = self._settle(fold, requests, at, subjects.node(SITE, bytes([shard])), AGENT)
            yield from made

    def _give(self, index: int, coming: Sequence[Node], at: int) -> Iterator[Record]:
        wanted = [AllocateAddress(client=node.client, iaid=IAID, family=kind) for node in coming for kind in (6, 4)]
        made, answers = self._decide(index, wanted, at)
        yield from made
        given = [
            event
            for answer in answers
            if not isinstance(answer, Exception)
            for event in answer
            if isinstance(event, AddressAllocated) and self._chance.random() < DECLINED
        ]
        if given:
            declined = [DeclineAddress(client=one.client, iaid=IAID, address=one.address) for one in given]
            again = [AllocateAddress(client=one.client, iaid=IAID, family=6) for one in given]
            made, _ = self._decide(index, [*declined, *again], at)
            yield from made

    def _applied(self, index: int, coming: Sequence[Node]) -> Iterator[Event]:
        fold = self._ledgers[index]
        generation = Generation(1, self._plan.sequence, fold.sequence)
        for node in coming:
            leases = [fold.state.lease(node.client, IAID, kind) for kind in (6, 4)]
            addresses = [lease.address for lease in leases if lease is not None]
            items = tuple(AppliedItem(address=address, outcome="usable") for address in addresses)
            yield ConfigurationApplied(client=node.client, generation=generation, items=items)
            yield _registered(node, addresses)

    def _decide(self, index: int, requests: Sequence[Request], at: int) -> tuple[list[Record], list[Answer]]:
        return self._settle(self._ledgers[index], requests, at, subjects.ledger(SITE, self.subnets[index]), AGENT)

    def _settle(
        self, fold: Fold[S], requests: Sequence[Request], at: int, subject: str, actor: str
    ) -> tuple[list[Record], list[Answer]]:
        """What a committer makes of it: one commit, or none where nothing happened."""
        chance = self._chance
        questions = [Question(each, chance.randbytes(fold.state.entropy(each))) for each in requests]
        commit, answers = settle(
            fold.state, questions, commit_id=chance.randbytes(16), at=at, predecessor=fold.sequence, actor=actor
        )
        if len(answers) < len(requests):
            raise RuntimeError(f"{subject}: a commit of {len(requests)} requests holds {len(answers)}")
        if not commit.decisions:
            return [], answers
        record = self._record(subject, commit)
        fold.take(
            Stored(
                subject=subject,
                sequence=record.sequence,
                stored_at=record.stored_at,
                commit=commit,
                size=len(record.data),
            )
        )
        return [record], answers

    def _write(self, subject: _Seen, events: Sequence[Event], at: int) -> Record:
        """A commit without decisions."""
        commit = Commit(
            id=self._chance.randbytes(16), time=at, predecessor=subject.last, actor=AGENT, events=tuple(events)
        )
        record = self._record(subject.subject, commit)
        subject.last = record.sequence
        return record

    def _record(self, subject: str, commit: Commit) -> Record:
        self.sequence += 1
        self.events += len(commit.events)
        return Record(subject, self.sequence, commit.time + STORED, codec.encode(commit))


def _registered(node: Node, addresses: Sequence[bytes]) -> ConfigurationRegistered:
    """What a node tells that has these addresses, and one that its kernel gave itself."""
    own = InterfaceAddress(interface=IAID, address=node.link_local, prefix_length=64, origin="link-local")
    managed = tuple(
        InterfaceAddress(
            interface=IAID,
            address=address,
            prefix_length=64 if family(address) == 6 else MAPPED_BITS + 24,
            origin="managed",
            preferred=172_800,
            valid=345_600,
        )
        for address in addresses
    )
    on_link = (Route(destination=prefix_of(each.address, each.prefix_length), interface=IAID) for each in managed)
    default = Route(destination=DEFAULT, interface=IAID, gateway=ROUTER, metric=100)
    snapshot = Snapshot(
        links=(
            Link(index=1, name="lo", up=True, carrier=True, mtu=65_536),
            Link(index=IAID, name="eth0", hardware=node.identity[2], mtu=1_500, up=True, carrier=True),
        ),
        addresses=(LOOPBACK, own, *managed),
        routes=(default, *on_link) if managed else (),
        resolver=Resolver(servers=(RESOLVER,)) if managed else Resolver(),
        kernel="6.1.0",
    )
    digest = hashlib.sha256(codec.encoder.encode(snapshot)).digest()
    return ConfigurationRegistered(client=node.client, digest=digest, snapshot=snapshot)
