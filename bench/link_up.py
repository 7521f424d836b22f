"""From a link that comes up to an address that can be used: DNMS, and others beside it, in turns on one link.

Each side begins with a node that is new: its interface is on and has no carrier, its program runs and waits, and knows
nothing of before. Then the cable is plugged in. For `bench.node`, in a network namespace of its own.
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, aclosing, contextmanager
from datetime import datetime
from pathlib import Path

import msgspec

from bench import kea
from bench.agent_side import AGENT, NEW_NODES, SUBNET
from bench.joins import NAME, adopt, percentile, served
from bench.link_pair import BRIDGE, INTERFACE, PREFIX, Pair
from bench.link_watch import ADVERTISED, ASKED, CONNECT, OFFER, SOLICIT, LinkWatch, Way
from bench.processes import cpu_seconds, in_namespace, own_namespace, running
from bench.sides import Stopwatch
from dnms.bus.jetstream import JetStreamLog
from dnms.bus.reading import read
from dnms.disk.site import Site
from dnms.events import subjects
from dnms.events.address import AddressAllocated
from dnms.kit.clock import MICROSECONDS
from dnms.linux.namespaces import search_path, set_up

RUNS = 20
SETTLED_WITHIN = 30.0  # seconds from the carrier on
QUIET, QUIET_WITHIN = 0.3, 20.0  # seconds without CPU, after which a program waits for the link
READY_WITHIN = 30.0
POLL = 0.05
WELCOMED = "session opened"  # in the Node Agent's log

_PLAN = f"""
[site]
name = "{NAME}"
[[subnet]]
name = "{SUBNET}"
prefixes = ["{PREFIX}"]
gateways = ["{PREFIX[1]}"]
dns = ["{PREFIX[1]}"]
policy = {{{{ optimistic = {{optimistic}} }}}}
[[pool]]
name = "{SUBNET}-v6"
subnet = "{SUBNET}"
range = "{PREFIX}"
"""


DAD_LINK_LOCAL, DAD = "DAD of fe80::", "DAD"
ASKS, OFFERED, CHOOSES = "until it asks", "until an offer comes", "until it has chosen"
TLS, DECISION, APPLY, ANSWER = "TCP, TLS, hello", "decision, on disk", "apply", "answer, apply"
PARTS = (DAD_LINK_LOCAL, ASKS, OFFERED, CHOOSES, TLS, DECISION, APPLY, ANSWER, DAD)
"""In their order; each begins where the one before it ends."""


class Side(msgspec.Struct, frozen=True):
    """Who gives the node its address."""

    name: str
    client: str  # on the node: dnms, dhcpcd, or kernel
    router: str = ""  # that is on the link beside it
    optimistic: bool = False


DNMS, OPTIMISTIC, DHCP, DHCP_ROUTER, SLAAC = SIDES = (
    Side("DNMS", "dnms"),
    Side("DNMS, optimistic DAD", "dnms", optimistic=True),
    Side("dhcpcd, Kea", "dhcpcd"),
    Side("dhcpcd, Kea, radvd", "dhcpcd", router="managed"),
    Side("SLAAC, radvd", "kernel", router="autonomous"),
)

_NEEDED = {"dhcpcd": "dhcpcd-base", "kea-dhcp6": "kea-dhcp6-server", "radvd": "radvd"}
"""Programs of others, and the Debian packages that bring them."""


class Spread(msgspec.Struct, frozen=True):
    """Milliseconds, nearest ranks."""

    p50: float
    p90: float
    max: float

    @classmethod
    def of(cls, seconds: Sequence[float]) -> Spread | None:
        """None, where there are none."""
        if not seconds:
            return None
        return cls(*(round(percentile(seconds, percent) * 1_000, 1) for percent in (50, 90, 100)))


class Measured(msgspec.Struct, frozen=True):
    """What one side came to."""

    side: str
    runs: int
    missed: int  # runs in which no address came in time
    usable: Spread | None  # from the carrier on
    beyond_dad: Spread | None  # of that, what is neither DAD of fe80:: nor of the address
    parts: dict[str, Spread]


class LinkUp(msgspec.Struct, frozen=True):
    """All sides that could be measured."""

    sides: list[Measured]
    missing: list[str]  # Debian packages without which some sides were not measured


def isolated(runs: int) -> LinkUp:
    """Run this module in a network namespace, and return what it says. RuntimeError if it has failed."""
    return in_namespace("bench.link_up", LinkUp, "--runs", str(runs))


async def measure(runs: int) -> LinkUp:
    """So many runs of each side, in turns. RuntimeError where DNMS does not come up."""
    own_namespace()
    missing = [package for program, package in _NEEDED.items() if shutil.which(program, path=search_path()) is None]
    sides = measurable(missing)
    found: dict[str, list[dict[str, float] | None]] = {side.name: [] for side in sides}
    set_up("lo")
    with tempfile.TemporaryDirectory(prefix="dnms-bench-") as directory:
        folder = Path(directory)
        async with served(folder, _PLAN.format(optimistic="false")) as (site, server, log):
            with ExitStack() as stack:
                bench = _Bench(Pair(folder, stack), site, log, folder)
                await bench.start(server.url, sides, stack)
                for _ in range(runs):
                    for side in sides:
                        found[side.name].append(await bench.run(side))
                        if found[side.name][-1] is None and side.client == "dnms":
                            raise RuntimeError(f"{side.name}: no usable address:\n{bench.log_of_node()}")
    return LinkUp([summary(name, times) for name, times in found.items()], missing)


def measurable(missing: Sequence[str]) -> list[Side]:
    """The sides that need none of these Debian packages."""
    sides = []
    for side in SIDES:
        needs = {"dhcpcd-base", "kea-dhcp6-server"} if side.client == "dhcpcd" else set()
        if side.router:
            needs.add("radvd")
        if needs.isdisjoint(missing):
            sides.append(side)
    return sides


def summary(side: str, runs: Sequence[dict[str, float] | None]) -> Measured:
    """Of one side."""
    done = [parts for parts in runs if parts is not None]
    names = dict.fromkeys(name for parts in done for name in parts)
    spreads = {name: Spread.of([parts[name] for parts in done if name in parts]) for name in names}
    return Measured(
        side=side,
        runs=len(runs),
        missed=len(runs) - len(done),
        usable=Spread.of([sum(parts.values()) for parts in done]),
        beyond_dad=Spread.of(
            [sum(took for name, took in parts.items() if name not in (DAD_LINK_LOCAL, DAD)) for parts in done]
        ),
        parts={name: spread for name, spread in spreads.items() if spread is not None},
    )


def parts_of(way: Way, *, welcomed: float | None = None, stored: float | None = None) -> dict[str, float] | None:
    """The seconds of each part of a way; those of one end where the next one begins. None if it has no end.

    `welcomed` is when the agent has let the node in, `stored` when its address was in the log; a moment that is not
    known, or came out of order, makes one part of two.
    """
    heard = way.packets
    # Of an address that it makes of an advertisement the kernel tells nothing before DAD is over.
    added = heard.get(ADVERTISED) if ADVERTISED in heard and way.added == way.settled else way.added
    moments = (
        (DAD_LINK_LOCAL, way.link_local),
        (ASKS, heard.get(SOLICIT, heard.get(ASKED))),
        (OFFERED, heard.get(OFFER)),
        (CHOOSES, heard.get(CONNECT)),
        (TLS, welcomed),
        (DECISION, stored),
        (APPLY if stored is not None else ANSWER, added),
        (DAD, way.usable),
    )
    if way.usable is None:
        return None
    parts: dict[str, float] = {}
    before = way.up
    for name, moment in moments:
        if moment is not None and before <= moment <= way.usable:
            parts[name] = moment - before
            before = moment
    return parts


class _Bench:
    """A link with servers on it, and a node that comes up again and again."""

    def __init__(self, pair: Pair, site: Site, log: JetStreamLog, folder: Path) -> None:
        self._ports: dict[str, str] = {}  # of routers
        self._pair = pair
        self._site = site
        self._log = log
        self._folder = folder
        self._optimistic = False
        self._number = 0

    async def start(self, bus: str, sides: Sequence[Side], stack: ExitStack) -> None:
        """Start the servers of these sides, and wait until they serve."""
        log = self._folder / "agent.log"
        agent = ("--interface", BRIDGE, "--subnet", SUBNET, "--name", AGENT, "--site", str(self._site.path))
        command = (sys.executable, "-m", "dnms.agents.subnet", *agent, "--bus", bus, "--new-nodes", str(NEW_NODES))
        stack.enter_context(running(*command, log=log))
        await _until(lambda: "serving" in log.read_text(), READY_WITHIN, "the Subnet Agent does not serve")
        if any(side.client == "dhcpcd" for side in sides):
            stack.enter_context(kea.serving(self._folder / "kea", BRIDGE))
        for router in sorted({side.router for side in sides} - {""}):
            self._ports[router] = self._pair.add_router(router, managed=router == "managed")

    async def run(self, side: Side) -> dict[str, float] | None:
        """One side once: what each part took, in seconds; None if no address came in time."""
        self._number += 1
        if side.client == "dnms" and side.optimistic != self._optimistic:
            self._optimistic = side.optimistic
            await adopt(self._log, _PLAN.format(optimistic=str(side.optimistic).lower()))
        before = await self._log.end()
        pair = self._pair
        pair.pull()
        with ExitStack() as stack:
            stack.enter_context(pair.on_the_link(self._ports.get(side.router)))
            pid = stack.enter_context(self._client(side))
            if pid is not None:
                await _quiet(pid)
            watch = LinkWatch(pair.node, INTERFACE, PREFIX)
            try:
                watch.way.up = pair.plug_in()
                await watch.settled(SETTLED_WITHIN)
            finally:
                await watch.close()
            if side.client != "dnms":
                return parts_of(watch.way)
            stored = await self._stored(before, watch.address)
            return parts_of(watch.way, welcomed=_welcomed(self.log_of_node()), stored=stored)

    def log_of_node(self) -> str:
        """What the client of the last run has said."""
        return (self._folder / f"client-{self._number}.log").read_text(errors="replace")

    @contextmanager
    def _client(self, side: Side) -> Iterator[int | None]:
        log = self._folder / f"client-{self._number}.log"
        if side.client == "kernel":
            yield None
            return
        if side.client == "dhcpcd":
            with self._pair.dhcpcd(asks_routers=bool(side.router), log=log) as pid:
                yield pid
            return
        node = ("--interface", INTERFACE, "--root-certificate", str(self._site.root_certificate))
        kept = ("--state", str(self._folder / f"state-{self._number}"))
        resolver = ("--resolv-conf", str(self._folder / "resolv.conf"))
        command = (sys.executable, "-m", "dnms.agents.node", *node, *kept, *resolver)
        with self._pair.started(command, log) as pid:
            yield pid

    async def _stored(self, after: int, address: bytes | None) -> float | None:
        """When the bus had the lease of this address on its disk."""
        async with aclosing(read(self._log, [subjects.ledger(NAME, SUBNET)], after=after)) as batches:
            async for batch in batches:
                for stored in batch.stored:
                    for event in stored.commit.events:
                        if isinstance(event, AddressAllocated) and event.address == address:
                            return stored.stored_at / MICROSECONDS
                if batch.caught_up:
                    break
        return None


def _welcomed(log: str) -> float | None:
    """When the Node Agent logged that an agent had let it in."""
    for line in log.splitlines():
        if WELCOMED in line:
            return datetime.fromisoformat(line.split()[0]).timestamp()
    return None


async def _quiet(pid: int) -> None:
    """Wait until a process has done what it does at its start."""
    spent, watch, still = cpu_seconds(pid), Stopwatch(), Stopwatch()
    while still.seconds() < QUIET:
        if watch.seconds() > QUIET_WITHIN:
            raise RuntimeError(f"process {pid} does not wait for a link within {QUIET_WITHIN:.0f} s")
        await asyncio.sleep(POLL)
        if (now := cpu_seconds(pid)) != spent:
            spent, still = now, Stopwatch()


async def _until(ready: Callable[[], bool], within: float, complaint: str) -> None:
    watch = Stopwatch()
    while not ready():
        if watch.seconds() > within:
            raise RuntimeError(complaint)
        await asyncio.sleep(POLL)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m bench.link_up")
    parser.add_argument("--runs", type=int, default=RUNS)
    sys.stdout.buffer.write(msgspec.json.encode(asyncio.run(measure(parser.parse_args().runs))))
