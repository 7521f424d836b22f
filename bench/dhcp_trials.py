"""How many exchanges a second a DHCP server does, and what each costs; for `bench.dhcp`, in a namespace of its own."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

import msgspec

from bench.dhcp_load import INTERFACE, LOADS, PERFDHCP, PERFDHCP_PACKAGE, RELAY, Load, Trial, avalanche, run
from bench.dhcp_servers import ADDRESS, SERVERS, Running, Server, is_there
from bench.dhcp_servers import INTERFACE as SERVED
from bench.processes import cpu_seconds, memory, own_namespace
from dnms.linux.namespaces import Namespace

LOST = 0.01  # of the exchanges at most, below which a rate counts as done
SECONDS = 3.0  # of a trial
STEP, FINE = 1.4, 1.12  # by which rates differ, from one trial to the next, and between what is done and what is not
MOST_TRIALS = 12
LOWEST = 20.0  # exchanges a second: below that nothing is looked for
CONFIRMED = 2  # trials of three that have to be done at the rate that is told
QUIET, QUIET_WITHIN = 0.1, 15.0  # cores, below which a server has done what it had to; seconds
LOOK = 0.5  # seconds
CLIENTS = 10_000  # of an avalanche

_SETTINGS: dict[str, str | int] = {"ipv6.conf.default.accept_dad": 0, "ipv6.conf.all.accept_dad": 0}


class Measured(msgspec.Struct, frozen=True):
    """What one server came to with one load."""

    server: str
    load: str
    durable: bool
    rate: float  # exchanges a second
    cpu: float  # seconds of a thousand exchanges at half of the rate, all that follows of them too
    p50: float  # ms, at half of the rate
    p99: float
    memory: float  # bytes a client that came
    disk: float
    recorded: float  # seconds after a load until the server was quiet
    busy: float  # load of the machine before


class Avalanche(msgspec.Struct, frozen=True):
    """What became of many clients at once."""

    server: str
    family: int
    seconds: float


class Found(msgspec.Struct, frozen=True):
    """All that was measured."""

    measured: list[Measured]
    avalanches: list[Avalanche]
    failed: list[str]  # of what nothing came, and why
    missing: list[str]  # Debian packages without which servers were left out


def search(attempt: Callable[[float], Trial], begins: float) -> float:
    """The highest rate at which less than LOST is lost; 0 if there is none. `attempt` tries one."""
    done, failed, rate = 0.0, 0.0, begins
    for _ in range(MOST_TRIALS):
        trial = attempt(rate)
        if trial.lost < LOST:
            done = max(done, rate)
        else:
            failed = rate if not failed else min(failed, rate)
        if done and failed and failed / done < FINE:
            break
        rate = (done + failed) / 2 if failed else done * STEP
        if rate < LOWEST:
            break
    while done > LOWEST:
        again = (attempt(done).lost < LOST for _ in range(CONFIRMED + 1))
        if sum(islice(filter(None, again), CONFIRMED)) == CONFIRMED:
            return done
        done /= STEP  # it was luck, or what was given meanwhile makes it slower
    return 0.0


def measure(loads: list[Load], servers: list[Server], clients: int) -> Found:
    """Each load with each server, one after the other."""
    own_namespace()
    missing = sorted({package for server in servers for package in server.missing()})
    if not is_there(PERFDHCP):
        missing.append(PERFDHCP_PACKAGE)
        return Found([], [], [], missing)
    there = [server for server in servers if not server.missing()]
    measured: list[Measured] = []
    avalanches: list[Avalanche] = []
    failed: list[str] = []
    for load in loads:
        for server in there:
            try:
                measured.append(_measured(server, load))
            except RuntimeError as error:
                failed.append(f"{server.name}, {load.name}: {str(error).strip().splitlines()[-1]}")
    for family in (6, 4) if clients else ():
        for server in there:
            try:
                with _network(server, family) as (_, ends):
                    avalanches.append(Avalanche(server.name, family, avalanche(family, ends, clients)))
            except RuntimeError as error:
                failed.append(f"{server.name}, avalanche: {str(error).strip().splitlines()[-1]}")
    return Found(measured, avalanches, failed, missing)


def _measured(server: Server, load: Load) -> Measured:
    """RuntimeError if it fails, or answers next to nothing."""
    busy = os.getloadavg()[0]
    with _network(server, load.family) as (serving, ends):
        turn = 0

        def attempt(rate: float, seconds: float = SECONDS) -> Trial:
            nonlocal turn
            turn += 1
            trial = run(load, ends, rate=rate, seconds=seconds, turn=turn)
            _quiet(serving)
            return trial

        attempt(50.0, 1.0)  # who comes first pays for what is made once
        rate = search(attempt, server.begins * (2 if load.kind in ("rapid", "renew") else 1))
        if not rate:
            raise RuntimeError("it answers too few")
        # Clients that renew have got their addresses before, which is none of what is measured.
        filled = _spent(serving)
        if load.kind == "renew":
            attempt(1.0, 1.0)
        before = _spent(serving), _held(serving), serving.disk()
        turn += 1
        half = run(load, ends, rate=rate / 2, seconds=SECONDS, turn=turn)
        recorded = _quiet(serving)
        spent = _spent(serving) - before[0] - (before[0] - filled)
        held, disk = _held(serving) - before[1], serving.disk() - before[2]
    came = max(1, half.done)
    return Measured(
        server=server.name,
        load=load.name,
        durable=load.family in server.durable,
        rate=rate,
        cpu=spent / came * 1_000,
        p50=half.p50,
        p99=half.p99,
        memory=held / came,
        disk=disk / came,
        recorded=recorded,
        busy=busy,
    )


@contextmanager
def _network(server: Server, family: int) -> Iterator[tuple[Running, Namespace]]:
    """It serves one end of a link; the other end."""
    with (
        tempfile.TemporaryDirectory(prefix="dnms-bench-") as directory,
        Namespace.create("server") as ours,
        Namespace.create("clients") as theirs,
    ):
        for each in (ours, theirs):
            each.set_sysctls(_SETTINGS)
        ours.ip(
            [f"link add {SERVED} type veth peer name {INTERFACE} netns /proc/self/fd/{theirs.fileno()}"],
            pass_fds=[theirs.fileno()],
        )
        ours.ip(
            [
                f"address add {ADDRESS}/8 dev {SERVED}",
                f"address add 2001:db8:1::1/64 dev {SERVED} nodad",
                f"link set {SERVED} up",
            ]
        )
        theirs.ip([f"address add {RELAY}/8 dev {INTERFACE}", f"link set {INTERFACE} up"])
        for each in (ours, theirs):
            _ready(each)
        folder = Path(directory)
        folder.chmod(0o711)
        with server.serving(folder, ours, family) as serving:
            yield serving, theirs


def _ready(namespace: Namespace) -> None:
    """Wait until its interface has its link-local address."""
    until = time.monotonic() + QUIET_WITHIN
    while "fe80" not in namespace.run("cat", "/proc/net/if_inet6"):
        if time.monotonic() > until:
            raise RuntimeError("no link-local address")
        time.sleep(LOOK / 10)


def _spent(serving: Running) -> float:
    return sum(cpu_seconds(pid) for pid in serving.processes())


def _held(serving: Running) -> int:
    return sum(memory(pid).pss for pid in serving.processes())


def _quiet(serving: Running) -> float:
    """Wait until it has nothing to do; how long that took."""
    began, spent = time.monotonic(), _spent(serving)
    while True:
        time.sleep(LOOK)
        now = _spent(serving)
        passed = time.monotonic() - began
        if (now - spent) / LOOK < QUIET or passed > QUIET_WITHIN:
            return passed - LOOK
        spent = now


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.dhcp_trials")
    parser.add_argument("--loads", default="")
    parser.add_argument("--servers", default="")
    parser.add_argument("--clients", type=int, default=CLIENTS)
    given = parser.parse_args()
    loads = [load for load in LOADS if not given.loads or load.name in given.loads.split("+")]
    servers = [server for server in SERVERS if not given.servers or server.name in given.servers.split("+")]
    sys.stdout.buffer.write(msgspec.json.encode(measure(loads, servers, given.clients)))


if __name__ == "__main__":
    main()
