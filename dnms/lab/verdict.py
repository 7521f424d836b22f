"""What a run came to, once its scenario is over: by the kernels, by the log, and by the views."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from dnms.events.ip import family, format_address, parse_address
from dnms.kit.clock import MICROSECONDS
from dnms.lab import kernel
from dnms.lab.doubled import Told, doubled, untold
from dnms.lab.judge import Lease, held_twice, promised
from dnms.lab.kernel import OURS, Held, Kernel
from dnms.lab.lab import Outcome
from dnms.lab.path import Way, steps
from dnms.lab.report import Count, Report, Times
from dnms.lab.steps import GRANTED, LEAVING_DEADLINE, Stage
from dnms.lab.tables import Machine, more, tables
from dnms.projections.events.queries import EventRow
from dnms.projections.naive import Naive


async def verdict(stage: Stage, scenario: str) -> Outcome:
    """Read every kernel, let all agents leave, and compare kernels, log and views."""
    lab, network = stage.lab, stage.network
    with lab.display.phase("comparing the views with the log"):
        kernels = [kernel.read(namespace) for namespace in network.nodes]
        missing = [list(stage.missing(place, found)) for place, found in enumerate(kernels)]
        others = [kernel.read(namespace) for namespace in (network.router, *network.agents, *network.strangers)]
        shown = await stage.site.shown(node_name=network.nodes[0].name)
        opened = await stage.site.events("session.opened", after=0)
        hidden = await _hidden(stage)
        late = await lab.nursery.stop_all(deadline=LEAVING_DEADLINE)
        sessions = await stage.site.open_sessions()
        differences = await stage.site.differences()
        log = await stage.site.folded()
        stored = await stage.site.leases()
    machines = [_machine(stage, place, found, configured=not missing[place]) for place, found in enumerate(kernels)]
    twice = held_twice([*kernels, *others]) | {text.split()[0] for text in log.duplicates} | hidden.keys()
    report = Report(
        scenario=scenario,
        nodes=lab.nodes,
        configured=sum(one.configured for one in machines),
        duplicates=len(twice),
        subnet_agents=lab.agents,
        events=log.events,
        views_equal_log=not differences,
        time_to_configured_ms=Times.of([one.seconds for one in machines if one.configured and one.seconds is not None]),
        time_beyond_dad_ms=Times.of(
            [one.beyond_dad for one in machines if one.configured and one.beyond_dad is not None]
        ),
        seconds=round(lab.seconds(), 1),
    )
    wrong = [
        *stage.wrong,
        *(f"{process.name} did not leave within {LEAVING_DEADLINE:.0f} s; see {process.log}" for process in late),
        *(
            f"{process.name} ended with {process.exit_code}: {process.last_line()}; see {process.log}"
            for process in stage.running.values()
            if process.exit_code and process not in late
        ),
        *(
            f"{one.name}: {text}; see {lab.folder / one.name}.log"
            for place, (one, lacking) in enumerate(zip(machines, missing, strict=True))
            for text in (*lacking, *promised(one.name, _used(stage, place, kernels[place]), log, stored))
        ),
        *(f"{name}: by the views it still has a session with {each}" for name in sessions for each in sessions[name]),
        *(f"{address} is held twice" for address in sorted(twice - hidden.keys())),
        *hidden.values(),
        *(f"{name}: its kernel said more than was read, and something is unknown" for name in stage.observatory.deaf()),
        *differences,
    ]
    way = steps(_way(stage, place, one, opened=opened, log=log, stored=stored) for place, one in enumerate(machines))
    return Outcome(report=report, tables=tables(report, machines, shown, way), wrong=tuple(wrong))


def counted(outcome: Outcome, kind: type[Report], **counts: Count) -> Outcome:
    """The outcome with what a scenario has counted beside it: in a report of its own kind, and for people."""
    fields: dict[str, Any] = {name: getattr(outcome.report, name) for name in outcome.report.__struct_fields__}
    fields |= counts
    return msgspec.structs.replace(outcome, report=kind(**fields), tables=(*outcome.tables, more(counts)))


async def _hidden(stage: Stage) -> dict[str, str]:
    """Addresses that two nodes could use at any time without that the log says it, each with a text for people."""
    since_boot = time.monotonic() - time.time()
    told = [
        Told(
            machine=event.node or "",
            address=parse_address(event.fields["address"]),
            happened=event.fields["happened"] / MICROSECONDS + since_boot,
        )
        for event in await stage.site.events(GRANTED, after=0)
        if event.fields.get("contested")
    ]
    texts: dict[str, str] = {}
    for each in untold(doubled(stage.observatory.holdings()), told):
        address, holders = format_address(each.address), " and ".join(sorted(each.machines))
        texts[address] = f"{holders} held {address} for {each.until - each.since:.1f} s, and the log does not say it"
    return texts


def _used(stage: Stage, place: int, found: Kernel) -> dict[bytes, float]:
    """What a node has used of what it was given, and since when, by the wall clock."""
    now, since_boot = time.time(), time.monotonic()
    used = dict.fromkeys(found.ours, since_boot) | stage.observatory.used(place)
    return {address: now - since_boot + at for address, at in used.items()}


def _way(
    stage: Stage, place: int, machine: Machine, *, opened: Sequence[EventRow], log: Naive, stored: Mapping[Lease, float]
) -> Way:
    """How a node came to the IPv6 address that it could use first, by the monotonic clock."""
    since_boot = time.monotonic() - time.time()
    clients = [client for client, name in log.names.items() if name == machine.name]
    sessions = [event.time.timestamp() for event in opened if event.client in clients]
    address = machine.first
    text = "" if address is None else format_address(address)
    leased = [stored[client, text] for client in clients if (client, text) in stored]
    return Way(
        started=stage.first_started.get(machine.name),
        registered=min(sessions) + since_boot if sessions else None,
        stored=min(leased) + since_boot if leased else None,
        added=None if address is None else stage.observatory.added_at(place, address),
        usable=None if address is None else stage.observatory.usable_at(place, address),
    )


def _machine(stage: Stage, place: int, found: Kernel, *, configured: bool) -> Machine:
    def ours(version: int) -> list[Held]:
        return [held for held in found.addresses if held.protocol == OURS and family(held.address) == version]

    name = stage.network.nodes[place].name
    started = stage.first_started.get(name)
    moments = {address: at for address, at in stage.observatory.used(place).items() if family(address) == 6}
    seconds = beyond = first = None
    if moments and started is not None:
        first = min(moments, key=moments.__getitem__)
        seconds = moments[first] - started
        probed = stage.observatory.probed(place, first, since=started)
        beyond = None if probed is None else seconds - sum(probed)
    return Machine(
        name=name,
        configured=configured,
        ipv6=", ".join(map(str, ours(6))) or "-",
        ipv4=", ".join(map(str, ours(4))) or "-",
        seconds=seconds,
        beyond_dad=beyond,
        first=first,
    )
