"""A site as a user makes and serves it, with a log in which agents have written."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryFile

import msgspec
import pytest

from dnms.bus import jetstream
from dnms.bus.append import append
from dnms.disk.site import Site
from dnms.events import codec
from dnms.events.address import AddressAllocated, AddressReleased
from dnms.events.commit import Commit
from dnms.events.configuration import Generation, InterfaceAddress, Link, Snapshot
from dnms.events.ip import parse_address
from dnms.events.node import NodeArrived, NodeIdentified
from dnms.events.recorded import Event, Personal
from dnms.events.seen import AppliedItem, ConfigurationApplied, ConfigurationRegistered, SessionOpened
from tests.system import commands

DNMS = Path(sys.executable).parent / "dnms"
PATIENCE = 30.0  # seconds; a loaded machine

NAME = "example"
PLAN = f"""
[site]
name = "{NAME}"

[[group]]
name = "voip"
number = 0x5a1e
nodes = ["phone-*"]

[[subnet]]
name = "office"
prefixes = ["2001:db8:1:1::/64", "192.0.2.0/28"]
gateways = ["fe80::1", "192.0.2.1"]

[[pool]]
name = "office-v6"
subnet = "office"
range = "2001:db8:1:1::/64"
"""

ALPHA, BETA, TWIN = bytes([0xA]) * 16, bytes([0xB]) * 16, bytes([0xC]) * 16
HELD, SHARED, STRANGE = map(parse_address, ("2001:db8:1:1::a", "2001:db8:1:1::5", "2001:db8:1:1::ff"))
SECOND = 1_000_000
NOON = 1_772_366_400 * SECOND  # 2026-03-01T12:00:00Z
HOUR = 3_600 * SECOND


class Done(msgspec.Struct, frozen=True):
    """What a command came to."""

    code: int
    out: str
    err: str


class Served(msgspec.Struct, frozen=True):
    """A site that `dnms serve` serves."""

    directory: Path
    api: str
    bus: str
    environment: dict[str, str]
    pid: int


def dnms(*words: str | Path, environment: dict[str, str] | None = None) -> Done:
    """Run a command as a user does."""
    with TemporaryFile("w+", encoding="utf-8") as out, TemporaryFile("w+", encoding="utf-8") as err:
        command = commands.start(words, out=out, err=err, environment=environment)
        try:
            code = command.wait(PATIENCE)
        except TimeoutError:
            command.kill()
            raise
        for each in (out, err):
            each.seek(0)
        return Done(code, out.read(), err.read())


@contextmanager
def serving(directory: Path, *, listen: str = "127.0.0.1:0") -> Iterator[Served]:
    """Serve a site on free ports, until the end; what it logs is beside its directory."""
    log = directory.with_name(f"{directory.name}.stderr")
    ports = ["--listen", listen, "--bus-listen", "127.0.0.1:0"]
    words: list[str | Path] = ["serve", "--site", directory, *ports, "-o", "json"]
    with log.open("ab") as stderr, commands.started(words, err=stderr) as (command, stdout):
        try:
            said = stdout.readline()
            assert said, log.read_text()
            where = json.loads(said)
            environment = {"DNMS_SITE": str(directory), "DNMS_API": where["api"]}
            yield Served(directory, where["api"], where["bus"], environment, command.pid)
        finally:
            command.send_signal(signal.SIGTERM)
            code = command.wait(PATIENCE)
    assert code == 0, log.read_text()


def write(served: Served, commits: Sequence[tuple[str, int, tuple[Event, ...]]]) -> int:
    """Append commits as agents do, after what is in the log; the sequence of the last."""

    async def appended() -> int:
        site = Site.load(served.directory)
        log = await jetstream.connect(served.bus, site.name, token=site.bus_token)
        heads: dict[str, int] = {}
        try:
            for place, at, events in commits:
                subject = f"dnms.{site.name}.{place}"
                head = heads.get(subject, 0)
                commit = Commit(id=os.urandom(16), time=at, predecessor=head, actor="agent/east", events=events)
                heads[subject] = await append(log, subject, codec.encode(commit), expected=head)
            return max(heads.values())
        finally:
            await log.close()

    return asyncio.run(appended())


def history() -> list[tuple[str, int, tuple[Event, ...]]]:
    """Three nodes, two of one name; an address that one held and then another; one that nobody leased."""

    def identified(client: bytes, name: str) -> NodeIdentified:
        return NodeIdentified(client=client, duid=Personal(client), name=Personal(name), kernel="6.1")

    def allocated(client: bytes, address: bytes, at: int) -> AddressAllocated:
        return AddressAllocated(
            address=address, client=client, iaid=1, pool="office-v6", valid_until=at + HOUR, horizon=at + 4 * HOUR
        )

    snapshot = Snapshot(
        links=(Link(index=2, name="eth0"),),
        addresses=(
            InterfaceAddress(interface=2, address=HELD, prefix_length=64, origin="managed"),
            InterfaceAddress(interface=2, address=STRANGE, prefix_length=64, origin="slaac", valid=60),
        ),
    )
    generation, item = Generation(0, 1, 2), AppliedItem(address=HELD, outcome="usable")
    return [
        ("node.0a", NOON, (identified(ALPHA, "alpha"), NodeArrived(client=ALPHA, subnet="office"))),
        ("node.0b", NOON, (identified(BETA, "beta"), NodeArrived(client=BETA, subnet="office"))),
        ("node.0c", NOON, (identified(TWIN, "beta"),)),
        ("ledger.office", NOON, (allocated(ALPHA, HELD, NOON), allocated(BETA, SHARED, NOON))),
        ("ledger.office", NOON + HOUR, (AddressReleased(address=SHARED, client=BETA, iaid=1),)),
        ("ledger.office", NOON + 2 * HOUR, (allocated(ALPHA, SHARED, NOON + 2 * HOUR),)),
        (
            "seen.office.east",
            NOON + 3 * HOUR,
            (
                SessionOpened(client=ALPHA, peer=parse_address("fe80::a")),
                ConfigurationRegistered(client=ALPHA, digest=bytes(32), snapshot=snapshot),
                ConfigurationApplied(client=ALPHA, generation=generation, items=(item,)),
            ),
        ),
    ]


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with the plan."""
    path = tmp_path_factory.mktemp("plan") / "plan.toml"
    path.write_text(PLAN)
    return path


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new site's directory."""
    directory = tmp_path_factory.mktemp("dnms") / "site"
    made = dnms("init", NAME, "--site", directory, "-o", "json")
    assert made.code == 0, made.err
    assert json.loads(made.out)["directory"] == str(directory)
    return directory


@pytest.fixture(scope="module")
def served(site: Path, plan: Path) -> Iterator[Served]:
    """The site, served, with its plan and what agents wrote."""
    with serving(site) as served:
        applied = dnms("plan", "apply", plan, "-o", "json", environment=served.environment)
        assert applied.code == 0, applied.err
        write(served, history())
        yield served
