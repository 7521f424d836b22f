"""Logs for these tests: made by hand, or generated as agents would write them."""

from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from dnms.bus.memory import MemoryLog
from dnms.domain.configured import difference
from dnms.events import codec
from dnms.events.address import (
    AddressAllocated,
    AddressBlocked,
    AddressDeclined,
    AddressDeprecated,
    AddressExpired,
    AddressHeld,
    AddressReleased,
    AddressRenewed,
    AddressUnheld,
    AddressWithdrawn,
    OutageGranted,
)
from dnms.events.commit import Commit, Stored
from dnms.events.configuration import Generation, InterfaceAddress, Link, Snapshot
from dnms.events.ip import Prefix, parse_address, parse_prefix
from dnms.events.link import AddressSighted, AddressVanished, AgentAnnounced, AlarmCleared, AlarmRaised
from dnms.events.node import NodeArrived, NodeEntered, NodeForgotten, NodeIdentified, NodeReady
from dnms.events.plan import AdoptedPlan, PlanAdopted, Pool, PoolDefined, PoolWithdrawn, Subnet
from dnms.events.prefix import (
    PrefixDelegated,
    PrefixDeprecated,
    PrefixExpired,
    PrefixReleased,
    PrefixRenewed,
    PrefixWithdrawn,
)
from dnms.events.recorded import Event, Personal
from dnms.events.seen import (
    AppliedItem,
    ConfigurationApplied,
    ConfigurationChanged,
    ConfigurationContested,
    ConfigurationDrifted,
    ConfigurationRegistered,
    DriftItem,
    HardwareContested,
    IdentityContested,
    SessionClosed,
    SessionOpened,
)
from dnms.events.uplink import Source, UplinkDeprecated, UplinkLost, UplinkReceived
from dnms.projections.example import SITE, Happened, happened

CLIENTS = [bytes([n]) * 16 for n in range(4)]
SUBNETS = ["lan", "lab"]
AGENTS = ["east", "west"]
ADDRESSES = [parse_address(f"2001:db8::{n}") for n in range(1, 6)] + [parse_address("192.0.2.1")]
ABOVE = [parse_prefix("2001:db8:1::/56"), parse_prefix("2001:db8:2::/56")]
BLOCKS = [parse_prefix(f"2001:db8:{site}:{block}0::/60") for site in (1, 2) for block in (0, 1)]
BLOCKS += [parse_prefix("2001:db8:1:10::/64"), parse_prefix("2001:db8::/64")]
ORIGINS = ["slaac", "managed", "link-local", "loopback"]
OUTCOMES = ["usable", "duplicate"]
MEMORY = Path("/dev/shm") if Path("/dev/shm").is_dir() else None  # hundreds of files, none of which has to last


@contextmanager
def folder() -> Iterator[Path]:
    """Where files of views may lie that need not outlive a power cut."""
    with tempfile.TemporaryDirectory(dir=MEMORY) as directory:
        yield Path(directory)


async def write(log: MemoryLog, *commits: Happened) -> None:
    """Append commits as their writers would."""
    for one in commits:
        subject = f"dnms.{SITE}.{one.subject}"
        head = max((record.sequence for record in log.records if record.subject == subject), default=0)
        number = len(log.records) + 1
        commit = Commit(id=number.to_bytes(16), time=one.time, predecessor=head, actor="agent/east", events=one.events)
        await log.store(subject, codec.encode(commit), expected=head)


def memory_log(log_id: str = "one") -> MemoryLog:
    """An empty log."""
    return MemoryLog(SITE, log_id=log_id, now=lambda: 0)


def tables(file: Path) -> dict[str, list[tuple[Any, ...]]]:
    """Every row of every table but those that say how the runner is."""
    with closing(sqlite3.connect(file)) as db:
        names = [row[0] for row in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        return {name: sorted(db.execute(f"SELECT * FROM {name}"), key=repr) for name in names if name != "view_state"}


def cut(log: Sequence[Stored], places: Sequence[int]) -> list[Sequence[Stored]]:
    """The log in batches that end at these places."""
    ends = sorted({place % (len(log) + 1) for place in places} | {len(log)})
    return [log[first:last] for first, last in zip([0, *ends], ends, strict=False)]


PREFIX_ENDS: dict[str, type[PrefixReleased | PrefixExpired | PrefixWithdrawn]] = {
    "released": PrefixReleased,
    "expired": PrefixExpired,
    "withdrawn": PrefixWithdrawn,
}
ENDS = ("released", "expired", "withdrawn", "declined")


def _granted(address: bytes, client: bytes, pool: str, *, contested: bool = False) -> OutageGranted:
    return OutageGranted(
        address=address,
        client=client,
        iaid=1,
        pool=pool,
        valid_until=3,
        horizon=5,
        happened=1,
        contested=contested,
    )


class Site:
    """What has been written so far, so that the next event can be one that a writer would write."""

    def __init__(self) -> None:
        self.held: dict[tuple[str, bytes], tuple[bytes, str]] = {}
        self.reserved: dict[tuple[str, bytes], bytes] = {}
        self.pools: list[str] = []
        self.sighted: dict[tuple[str, bytes], bytes] = {}
        self.delegated: dict[tuple[str, Prefix], bytes] = {}
        self.above: set[tuple[str, Prefix]] = set()

    def prefix(self, draw: st.DrawFn, subnet: str) -> Event:
        """The next event of a ledger about a prefix."""
        prefix = draw(st.sampled_from(BLOCKS))
        client = self.delegated.get((subnet, prefix))
        hop = draw(st.sampled_from(ADDRESSES[:2]))
        if client is None:
            client = self.delegated[subnet, prefix] = draw(st.sampled_from(CLIENTS))
            return PrefixDelegated(
                prefix=prefix, client=client, iaid=1, delegation="all", next_hop=hop, valid_until=1, horizon=2
            )
        what = draw(st.sampled_from(["renewed", "deprecated", *PREFIX_ENDS]))
        if what == "renewed":
            return PrefixRenewed(prefix=prefix, client=client, iaid=1, next_hop=hop, valid_until=3, horizon=4)
        if what == "deprecated":
            return PrefixDeprecated(prefix=prefix, client=client, iaid=1, next_hop=hop, valid_until=3)
        del self.delegated[subnet, prefix]
        return PREFIX_ENDS[what](prefix=prefix, client=client, iaid=1, next_hop=hop)

    def uplink(self, draw: st.DrawFn, subnet: str) -> Event:
        """The next event of a ledger about what comes from above."""
        prefix, source = draw(st.sampled_from(ABOVE)), Source(name="dhcpv6 00:01")
        what = draw(st.sampled_from(["received", "deprecated", "lost", "adopted"]))
        if what == "adopted":
            own = tuple(draw(st.sets(st.sampled_from(BLOCKS[:3]), max_size=2)))
            planned = Subnet(name=subnet, realm="default", prefixes=own) if draw(st.booleans()) else None
            return PlanAdopted(plan=AdoptedPlan(position=draw(st.integers(1, 9)), level=1, subnet=planned))
        if (subnet, prefix) not in self.above or what == "received":
            self.above.add((subnet, prefix))
            return UplinkReceived(uplink="wan", prefix=prefix, preferred_until=5, valid_until=9, source=source)
        if what == "deprecated":
            return UplinkDeprecated(uplink="wan", prefix=prefix, valid_until=7, source=source)
        self.above.remove((subnet, prefix))
        return UplinkLost(uplink="wan", prefix=prefix, why="cut")

    def lease(self, draw: st.DrawFn, subnet: str) -> Event:  # noqa: PLR0911  # one return an event
        """The next event of a ledger."""
        address = draw(st.sampled_from(ADDRESSES))
        key = (subnet, address)
        if draw(st.integers(0, 5)) == 0:
            if key in self.reserved:
                return AddressUnheld(address=address, client=self.reserved.pop(key), iaid=1)
            self.reserved[key] = self.held[key][0] if key in self.held else draw(st.sampled_from(CLIENTS))
            return AddressHeld(address=address, client=self.reserved[key], iaid=1)
        if key not in self.held:
            client, pool = draw(st.sampled_from(CLIENTS)), draw(st.sampled_from(["six", "other"]))
            if draw(st.integers(0, 4)) == 0:
                return AddressBlocked(address=address, client=client, blocked_until=9, cause=1)
            self.held[key] = (client, pool)
            if draw(st.integers(0, 4)) == 0:
                return _granted(address, client, pool)
            return AddressAllocated(address=address, client=client, iaid=1, pool=pool, valid_until=1, horizon=2)
        client, pool = self.held[key]
        what = draw(st.sampled_from(["renewed", "deprecated", "again", "contested", *ENDS]))
        if what == "deprecated":
            return AddressDeprecated(address=address, client=client, iaid=1, valid_until=2)
        if what == "again":  # by two agents in one outage
            return _granted(address, client, pool)
        if what == "contested":
            return _granted(address, draw(st.sampled_from(CLIENTS)), pool, contested=True)
        if what == "renewed":
            return AddressRenewed(address=address, client=client, iaid=1, valid_until=3, horizon=4)
        del self.held[key]
        if what == "declined":
            return AddressDeclined(address=address, client=client, iaid=1, quarantined_until=9)
        kind = {"released": AddressReleased, "expired": AddressExpired, "withdrawn": AddressWithdrawn}[what]
        return kind(address=address, client=client, iaid=1)

    def seen(self, draw: st.DrawFn, subnet: str) -> Event:
        """The next event of a ledger about what is seen on its link."""
        address, client = draw(st.sampled_from(ADDRESSES[:3])), draw(st.sampled_from(CLIENTS))
        what = draw(st.sampled_from(["sighted", "sighted", "vanished", "raised", "cleared", "announced"]))
        if what == "raised":
            return AlarmRaised(alarm="duplicate", address=address, client=client, other=CLIENTS[0])
        if what == "cleared":
            return AlarmCleared(alarm="duplicate", address=address, client=client, why="over")
        if what == "announced":
            return AgentAnnounced(agent="east", addresses=(address,))
        if (subnet, address) not in self.sighted:
            self.sighted[subnet, address] = client
        elif what == "vanished":
            return AddressVanished(address=address, client=self.sighted.pop((subnet, address)), last_seen=1)
        client = self.sighted[subnet, address]
        return AddressSighted(address=address, client=client, form="low", since=draw(st.integers(0, 9)), until=99)

    def plan(self, draw: st.DrawFn) -> Event:
        """The next event of the plan."""
        withdraws = draw(st.booleans())
        if withdraws and self.pools:
            name = draw(st.sampled_from(self.pools))
            self.pools.remove(name)
            return PoolWithdrawn(name=name)
        name = draw(st.sampled_from(["six", "other", "third"]))
        if name not in self.pools:
            self.pools.append(name)
        subnet = draw(st.sampled_from(SUBNETS))
        return PoolDefined(pool=Pool(name=name, subnet=subnet, first=ADDRESSES[0], last=ADDRESSES[3]))


def node_event(draw: st.DrawFn, client: bytes) -> Event:
    """The next event of a shard of nodes."""
    what = draw(st.integers(0, 7))
    if what == 0:
        name = Personal(draw(st.sampled_from(["a", "b", "entered"])))
        return NodeEntered(client=client, duid=Personal(client), name=name, iaid=1)
    if what == 1:
        return NodeReady(client=client)
    if what == 2:
        return NodeForgotten(client=client)
    if draw(st.booleans()):
        return NodeIdentified(
            client=client, duid=Personal(client), name=Personal(draw(st.sampled_from(["a", "b", "c"])))
        )
    return NodeArrived(client=client, subnet=draw(st.sampled_from(SUBNETS)))


def trouble(draw: st.DrawFn, what: str, client: bytes, peer: bytes) -> Event:
    """What an agent saw that should not be: an identity or a configuration that somebody else has a hand in."""
    if what == "contested":
        if draw(st.booleans()):
            return HardwareContested(client=client, entered=CLIENTS[0], contender=peer)
        return IdentityContested(client=client, holder=peer, contender=ADDRESSES[1])
    items = (DriftItem(kind="address", name="2001:db8::1/64", change="removed"),)
    if draw(st.booleans()):
        return ConfigurationContested(
            client=client, generation=Generation(0, 1, 2), items=items, restored=5, within=60, hold=900
        )
    return ConfigurationDrifted(client=client, generation=Generation(0, 1, 2), items=items, action="restored")


def seen_event(draw: st.DrawFn, told: dict[bytes, Snapshot]) -> Event:
    """The next event that an agent saw; `told` is what nodes have by the log."""
    client = draw(st.sampled_from(CLIENTS))
    what = draw(st.sampled_from(["opened", "closed", "registered", "registered", "applied", "contested", "drifted"]))
    peer = draw(st.sampled_from(ADDRESSES[:2]))
    if what == "opened":
        return SessionOpened(client=client, peer=peer)
    if what in ("contested", "drifted"):
        return trouble(draw, what, client, peer)
    if what == "closed":
        return SessionClosed(client=client, why="bye")
    if what == "applied":
        item = AppliedItem(address=draw(st.sampled_from(ADDRESSES)), outcome=draw(st.sampled_from(OUTCOMES)))
        why = draw(st.sampled_from(("", "gateway")))
        return ConfigurationApplied(
            client=client, generation=Generation(0, 1, 2), items=(item,), unproven=draw(st.booleans()), why=why
        )
    found = draw(st.lists(st.tuples(st.integers(1, 2), st.sampled_from(ADDRESSES)), max_size=5, unique=True))
    snapshot = Snapshot(
        links=(Link(index=1, name="eth0"),),
        addresses=tuple(
            InterfaceAddress(interface=index, address=address, prefix_length=64, origin=draw(st.sampled_from(ORIGINS)))
            for index, address in found
        ),
    )
    before, told[client] = told.get(client), snapshot
    if before is not None and draw(st.booleans()):
        return ConfigurationChanged(client=client, change=difference(before, snapshot))
    return ConfigurationRegistered(client=client, digest=bytes(32), snapshot=snapshot)


@st.composite
def logs(draw: st.DrawFn) -> list[Happened]:
    """A log as a site writes it. Time never goes back on a subject, and differs between subjects."""
    site = Site()
    clocks: dict[str, int] = {}
    told: dict[bytes, Snapshot] = {}
    log = []
    for _ in range(draw(st.integers(0, 25))):
        family = draw(st.sampled_from(["ledger", "ledger", "seen", "seen", "node", "plan"]))
        subnet, client = draw(st.sampled_from(SUBNETS)), draw(st.sampled_from(CLIENTS))
        subject = {
            "ledger": f"ledger.{subnet}",
            "seen": f"seen.{subnet}.{draw(st.sampled_from(AGENTS))}",
            "node": f"node.{client[0]:02x}",
            "plan": "plan",
        }[family]
        clocks[subject] = clocks.get(subject, draw(st.integers(0, 50))) + draw(st.integers(0, 9))
        events: list[Event] = []
        for _ in range(draw(st.integers(0, 3))):
            if family == "ledger":
                happens = draw(st.sampled_from([site.lease, site.lease, site.prefix, site.uplink, site.seen]))
                events.append(happens(draw, subnet))
            elif family == "plan":
                events.append(site.plan(draw))
            else:
                events.append(node_event(draw, client) if family == "node" else seen_event(draw, told))
                if isinstance(events[-1], NodeForgotten):
                    told.pop(client, None)
        log.append(happened(subject, clocks[subject], *events))
    return log
