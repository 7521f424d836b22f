"""Golden logs: a small log of each release, with every kind of event, and what a user was answered about it then.

`make golden` runs this. It writes a log where this release has a kind of event that is in none yet, or is a release
that has none, and never changes a file: every later release gives the same answers about them.

    golden/<release>.dnmslog.gz   as `dnms log export` wrote it
    golden/<release>.json         by command, the lines of its answer
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from dnms import __version__
from dnms.archive.records import Encoder, Header, LogFile
from dnms.bus.port import Record
from dnms.domain.aggregate import Fold, Question, State, settle
from dnms.domain.document import from_toml
from dnms.domain.ledger import Ledger
from dnms.domain.nodes import NodeShard
from dnms.domain.plan import PlanState
from dnms.events import codec, effect, seen, subjects
from dnms.events.address import AddressAllocated
from dnms.events.commit import Commit, Stored
from dnms.events.ip import Prefix, parse_address, parse_prefix
from dnms.events.prefix import PrefixDelegated
from dnms.events.recorded import Event, Personal, Request
from dnms.events.requests import (
    AdoptPlan,
    AdvanceRollout,
    AllocateAddress,
    AnnounceAgent,
    BlockAddress,
    ClearAlarm,
    CompleteNode,
    DeclineAddress,
    DelegatePrefix,
    EnterNode,
    ExpireAddresses,
    ExpirePrefixes,
    ForgetNode,
    HoldAddress,
    IdentifyNode,
    JoinNode,
    MergeOutage,
    MoveAddress,
    PartNode,
    ProveRollout,
    RaiseAlarm,
    ReleaseAddress,
    ReleasePrefix,
    RenewAddress,
    ReportGateway,
    ReportUplink,
    SightAddress,
    SteerRollout,
    StopRollout,
    TellRollout,
    UnholdAddress,
    UplinkPrefix,
    WithdrawAddress,
)
from dnms.events.uplink import Source
from tests.unit.events.examples import full

FOLDER = Path(__file__).parent / "golden"
DNMS = Path(sys.executable).parent / "dnms"

SITE, LOG_ID, SECRET = "golden", "0123456789abcdef" * 2, b"g" * 32
SECOND = 1_000_000
BEGIN = 1_772_366_400 * SECOND  # 2026-03-01T12:00:00Z
SEED = 5

WIDE = """
[site]
name = "golden"
[[realm]]
name = "default"
[[realm]]
name = "other"
[[group]]
name = "voip"
number = 0x5a1e
nodes = ["phone-*"]
[[group]]
name = "guests"
number = 0x0777
[[uplink]]
name = "wan"
protocol = "dhcpv6"
[[subnet]]
name = "lan"
realm = "default"
prefixes = ["2001:db8:1:1::/64", "192.0.2.0/24"]
uplink = "wan"
gateways = ["fe80::1", "fe80::2"]
[[subnet]]
name = "attic"
realm = "other"
prefixes = ["2001:db8:1:2::/64"]
[[pool]]
name = "six"
subnet = "lan"
range = "2001:db8:1:1::/64"
[[pool]]
name = "four"
subnet = "lan"
range = "192.0.2.16-192.0.2.31"
[[pool]]
name = "dust"
subnet = "attic"
range = "2001:db8:1:2::/64"
[[delegation]]
name = "blocks"
subnet = "lan"
length = 60
[[reservation]]
subnet = "lan"
address = "2001:db8:1:1::77"
node = "0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c"
[[rule]]
name = "guests-to-voip"
direction = "ingress"
from = ["group:guests", "2001:db8:f::/48"]
to = "group:voip"
protocol = "udp"
ports = [5060]
"""
IN_WAVES = WIDE.replace(
    'gateways = ["fe80::1", "fe80::2"]',
    'gateways = ["fe80::1"]\nrollout = { canaries = 1, waves = [100], pause = 0 }',
)
NARROW = """
[site]
name = "golden"
[[realm]]
name = "default"
[[group]]
name = "voip"
number = 0x5a1e
nodes = ["phone-*"]
[[subnet]]
name = "lan"
realm = "default"
prefixes = ["2001:db8:1:1::/64", "192.0.2.0/24"]
[[pool]]
name = "six"
subnet = "lan"
range = "2001:db8:1:1::/64"
[[pool]]
name = "four"
subnet = "lan"
range = "192.0.2.16-192.0.2.31"
"""

QUESTIONS: tuple[tuple[str, ...], ...] = (
    ("node", "list"),
    ("address", "list"),
    ("pool", "list"),
    ("event", "list", "--limit", "1000"),
    ("who-had", "2001:db8:1:1::a"),
    ("who-had", "2001:db8:1:1::c", "--at", "2026-03-01T13:00:00Z"),
)
"""What a user asks, and is answered from the log alone."""


def client(number: int) -> bytes:
    return bytes([number]) * 16


class Site:
    """The writers of one site, each with the domain's own code. A commit a minute."""

    def __init__(self) -> None:
        self.records: list[Record] = []
        self.chance = random.Random(SEED)
        self.plan = Fold(PlanState(SITE))
        self.ledger = Fold(Ledger(SECRET))
        self.shards: dict[bytes, Fold[NodeShard]] = {}
        self.heads: dict[str, int] = {}

    @property
    def now(self) -> int:
        return BEGIN + len(self.records) * 60 * SECOND

    def write(self, subject: str, commit: Commit) -> Stored:
        sequence, data = len(self.records) + 1, codec.encode(commit)
        self.records.append(Record(subject, sequence, commit.time, data))
        self.heads[subject] = sequence
        return Stored(subject=subject, sequence=sequence, stored_at=commit.time, commit=commit, size=len(data))

    def ask(self, fold: Fold[Any], subject: str, *requests: Request) -> tuple[Event, ...]:
        state: State = fold.state
        commit, _ = settle(
            state,
            [Question(each, self.chance.randbytes(state.entropy(each))) for each in requests],
            commit_id=self.chance.randbytes(16),
            at=self.now,
            predecessor=self.heads.get(subject, 0),
            actor="operator/anna" if subject == subjects.plan(SITE) else "agent/east",
        )
        fold.take(self.write(subject, commit))
        return commit.events

    def apply(self, text: str) -> None:
        self.ask(self.plan, subjects.plan(SITE), from_toml(text))
        self.lease(AdoptPlan(plan=self.plan.state.for_subnet("lan")))

    def lease(self, *requests: Request) -> tuple[Event, ...]:
        return self.ask(self.ledger, subjects.ledger(SITE, "lan"), *requests)

    def allocate(self, number: int, family: int, group: int = 0) -> bytes:
        asked = AllocateAddress(client=client(number), iaid=1, family=4 if family == 4 else 6, group=group)
        *_, event = self.lease(asked)
        assert isinstance(event, AddressAllocated)
        return event.address

    def node(self, number: int, request: Request) -> None:
        subject = subjects.node(SITE, client(number))
        self.ask(self.shards.setdefault(client(number)[:1], Fold(NodeShard())), subject, request)

    def identify(self, number: int, name: str) -> None:
        asked = IdentifyNode(
            client=client(number),
            duid=Personal(b"\0\4" + client(number)),
            name=Personal(name),
            subnet="lan",
            hardware=(Personal(b"\2\0\0\0\0" + bytes([number])),),
            kernel="6.1",
        )
        self.node(number, asked)

    def see(self, *events: Event) -> None:
        self.write_own(subjects.seen(SITE, "lan", "east"), *events)

    def write_own(self, subject: str, *events: Event) -> None:
        """On a subject that is of one writer alone."""
        self.write(
            subject,
            Commit(
                id=self.chance.randbytes(16),
                time=self.now,
                predecessor=self.heads.get(subject, 0),
                actor="agent/east",
                events=events,
            ),
        )


def made() -> list[Record]:
    """The log of this release."""
    site = Site()
    site.apply(WIDE)
    for number, name in ((1, "alpha"), (2, "beta"), (3, "phone-1"), (4, "delta")):
        site.identify(number, name)
    site.node(5, EnterNode(client=client(5), duid=Personal(b"\0\4e"), name=Personal("phone-2"), iaid=1))
    site.lease(HoldAddress(client=client(5), iaid=1, family=6, address=parse_address("2001:db8:1:1::5")))
    site.node(5, CompleteNode(client=client(5)))
    site.node(4, JoinNode(client=client(4), into=client(1)))
    six = {number: site.allocate(number, 6, 0x5A1E if number == 3 else 0) for number in (1, 2, 3, 4)}
    four = {number: site.allocate(number, 4) for number in (1, 2, 3, 4)}
    later = 60 * 60  # past every horizon of IPv4, at a commit a minute
    site.see(*(full(each) for each in seen.EVENTS))
    site.lease(MoveAddress(client=client(1), iaid=1, address=six[1], to=parse_address("2001:db8:1:1::a")))
    site.lease(
        DeclineAddress(client=client(2), iaid=1, address=six[2]), AllocateAddress(client=client(2), iaid=1, family=6)
    )
    site.lease(WithdrawAddress(client=client(3), iaid=1, address=six[3]))
    site.lease(ReleaseAddress(client=client(4), iaid=1, address=six[4]))
    site.lease(HoldAddress(client=client(2), iaid=7, family=4, address=parse_address("192.0.2.30")))
    site.lease(UnholdAddress(client=client(2), iaid=7, address=parse_address("192.0.2.30")))
    site.lease(
        BlockAddress(
            client=client(4),
            address=parse_address("2001:db8:1:1::b"),
            cause=site.heads[subjects.seen(SITE, "lan", "east")],
        )
    )
    site.lease(ReportGateway(address=parse_address("fe80::2"), seen="silent"))
    site.lease(ReportGateway(address=parse_address("fe80::2"), seen="answers"))
    granted = MergeOutage(
        client=client(6),
        iaid=1,
        address=parse_address("2001:db8:1:1::c"),
        pool="six",
        valid_until=site.now + later * SECOND,
        horizon=site.now + 4 * later * SECOND,
        happened=site.now - 60 * SECOND,
    )
    site.lease(granted)
    for number in range(40):  # time passes
        site.identify(7, f"restless-{number}")
    site.lease(*(RenewAddress(client=client(n), iaid=1, address=four[n]) for n in (1, 2)))
    for number in range(40):
        site.identify(7, f"restless-{number}")
    site.lease(ExpireAddresses(addresses=(four[3], four[4])))
    site.node(4, PartNode(client=client(4)))
    roll_out(site)
    watch(site)
    site.node(7, ForgetNode(client=client(7)))
    delegate(site)
    site.write_own(subjects.effect(SITE, "firewall", "gate"), *(full(each) for each in effect.EVENTS))
    site.apply(NARROW)
    return site.records


def watch(site: Site) -> None:
    """What an agent sees on the link."""
    address, router = parse_address("2001:db8:1:1::5e"), parse_address("fe80::bad")
    site.lease(AnnounceAgent(agent="east", addresses=(parse_address("fe80::ea"),), servers=(client(8),)))
    site.lease(SightAddress(address=address, client=client(9), form="random", lasting="stable"))
    site.lease(SightAddress(address=parse_address("192.0.2.99"), client=client(9), form="ipv4"))
    site.lease(RaiseAlarm(alarm="router", address=router, client=client(10), why="not-planned"))
    site.lease(RaiseAlarm(alarm="duplicate", address=address, client=client(10), other=client(9)))
    site.lease(ClearAlarm(alarm="router", address=router, client=client(10)))
    site.lease(SightAddress(address=address, client=client(10), form="random", lasting="stable"))


def delegate(site: Site) -> None:
    """What comes from above, and what is given of it."""
    hop = parse_address("fe80::1")
    above = UplinkPrefix(
        prefix=parse_prefix("2001:db8:9::/56"),
        preferred_until=site.now + 86_400 * SECOND,
        valid_until=site.now + 86_400 * SECOND,
    )
    source = Source(name="dhcpv6 00:01")
    site.lease(ReportUplink(uplink="wan", prefixes=(above,), source=source))
    wanted = {n: DelegatePrefix(client=client(n), iaid=1, next_hop=hop, interface="e") for n in (1, 2, 3, 4)}
    first, second, third, _ = (_delegated(site.lease(wanted[number])) for number in wanted)
    site.lease(DelegatePrefix(client=client(1), iaid=1, next_hop=parse_address("fe80::2"), interface="e"))
    site.lease(ReleasePrefix(client=client(2), iaid=1, prefix=second))
    other = msgspec.structs.replace(above, prefix=parse_prefix("2001:db8:a::/56"))
    old = msgspec.structs.replace(above, preferred_until=0)
    site.lease(ReportUplink(uplink="wan", prefixes=(old, other), source=source))
    site.lease(wanted[1])
    site.lease(ReportUplink(uplink="wan", prefixes=(other,), source=source))
    last = _delegated(site.lease(wanted[3]))
    assert len({first, second, third, last}) == 4
    for number in range(245):  # past its horizon, at a commit a minute
        site.identify(7, f"restless-{number}")
    site.lease(ExpirePrefixes(prefixes=(last,)))


def _delegated(events: tuple[Event, ...]) -> Prefix:
    event = events[0]
    assert isinstance(event, PrefixDelegated)
    return event.prefix


def roll_out(site: Site) -> None:
    """Two plans in waves: one that is stopped, goes on and ends; one that is undone."""
    site.apply(IN_WAVES)
    plan = site.plan.state.position
    for request in (
        TellRollout(position=plan, clients=(client(1), client(2))),
        ProveRollout(position=plan, clients=(client(1),)),
        AdvanceRollout(position=plan, wave=0),
        TellRollout(position=plan, clients=(client(2),)),
        StopRollout(position=plan, client=client(2), why="rolled-back"),
        SteerRollout(to="resume"),
        SteerRollout(to="pause"),
        SteerRollout(to="resume"),
        AdvanceRollout(position=plan, wave=1),
    ):
        site.lease(request)
    site.apply(IN_WAVES.replace("fe80::1", "fe80::2"))
    site.lease(SteerRollout(to="abort"))


def encoded(records: list[Record]) -> bytes:
    """A file as `dnms log export` writes it."""
    encoder = Encoder(Header(SITE, LOG_ID))
    return b"".join([encoder.begin(), *map(encoder.message, records), encoder.end()])


def answers(log: Path, directory: Path) -> dict[str, list[Any]]:
    """What a user is answered who has imported a log into a new site."""
    site = directory / "site"
    _run("init", SITE, "--site", site)
    _run("log", "import", log, "--site", site)
    _run("view", "rebuild", "--site", site)
    return {
        " ".join(words): [json.loads(line) for line in _run(*words, "--data", site, "-o", "json").splitlines()]
        for words in QUESTIONS
    }


def _run(*words: str | Path) -> str:
    done = subprocess.run([DNMS, *words], capture_output=True, text=True, check=False, timeout=120, env={**os.environ})
    assert done.returncode == 0, (words, done.stderr)
    return done.stdout


def logs() -> list[Path]:
    """Every golden log."""
    return sorted(FOLDER.glob("*.dnmslog.gz"))


def kinds(log: Path) -> set[str]:
    """The kinds of events in a log."""
    return {event.NAME for record in LogFile(log).messages() for event in codec.decode(record.data).events}


def missing() -> Iterator[str]:
    """The kinds of events that are in no golden log."""
    known = {kind for log in logs() for kind in kinds(log)}
    yield from sorted({event.NAME for event in codec.EVENTS} - known)


def main() -> int:
    """Add the log that is missing, if one is; exit code 0."""
    FOLDER.mkdir(exist_ok=True)
    path, number = FOLDER / f"{__version__}.dnmslog.gz", 1
    if path.exists() and not list(missing()):
        return 0
    while path.exists():
        number += 1
        path = FOLDER / f"{__version__}.{number}.dnmslog.gz"
    with tempfile.TemporaryDirectory() as directory:
        log = Path(directory) / path.name
        log.write_bytes(encoded(made()))
        found = answers(log, Path(directory))
        path.write_bytes(log.read_bytes())
    answered = json.dumps(found, indent=1, ensure_ascii=False) + "\n"
    path.with_name(path.name.replace(".dnmslog.gz", ".json")).write_text(answered)
    print(path.relative_to(FOLDER.parent))
    return 0


if __name__ == "__main__":
    sys.exit(main())
