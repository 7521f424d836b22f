"""A firewall that is made so by a log, whenever that is asked for, and what of it is in the kernel."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from dnms.events.ip import parse_prefix
from dnms.events.plan import Subnet, SubnetDefined
from dnms.events.recorded import Event
from dnms.events.rule import Ports, Rule
from dnms.subscribers import firewall
from dnms.subscribers.firewall.examples import (
    DESK,
    PHONE,
    SALES,
    VOIP,
    group,
    leased,
    ledger,
    named,
    pool,
    site,
)
from dnms.subscribers.subscriber import Happened, Local, Subscriber
from tests.contracts.subscribers.logs import SITE
from tests.netns.subscribers.conftest import Machine, run_once
from tests.netns.subscribers.logs import filled, memory_log
from tests.netns.subscribers.network import (
    DESK_4,
    DESK_6,
    PHONE_4,
    PHONE_6,
)

GROUPS: tuple[Event, ...] = (
    site(),
    group("sales", SALES, "desk-*"),
    group("voip", VOIP, "phone-*"),
    pool("six-a", "2001:db8:1:1::/64"),
    pool("six-b", "2001:db8:1:2::/64"),
)
FOUR = pool("four", "192.0.2.0/24")
LEASES = (
    named(DESK, "desk-1"),
    named(PHONE, "phone-1"),
    ledger(leased(DESK, DESK_6, group=SALES), subnet="a"),
    ledger(leased(PHONE, PHONE_6, group=VOIP), subnet="b"),
)
OLD = (
    ledger(leased(DESK, DESK_4, group=SALES, pool="four"), subnet="a"),
    ledger(leased(PHONE, PHONE_4, group=VOIP, pool="four"), subnet="b"),
)
OUT = Rule(name="sales-web", direction="egress", group="sales", protocol="udp", ports=(Ports(first=53, last=53),))


def acting(local: Local) -> Subscriber[Any, Any]:
    """The firewall, with what is local to a machine."""
    subscriber = firewall.SUBSCRIBER
    return msgspec.structs.replace(
        subscriber, folding=lambda _: subscriber.folding(local), world=lambda _: subscriber.world(local)
    )


def local(directory: Path, text: str = "", **interfaces: str) -> Local:
    config = directory / "firewall.toml"
    config.write_text(f"[firewall]\n{text}\n")
    return Local(site=SITE, interfaces=interfaces, config=config)


class Acting:
    """A log, and a firewall that is made so by it whenever that is asked for."""

    def __init__(self, machine: Machine, directory: Path, subscriber: Subscriber[Any, Any]) -> None:
        self._machine = machine
        self._directory = directory
        self._subscriber = subscriber
        self.history: list[Happened] = []

    def add(self, *happened: Happened) -> None:
        self.history += happened

        async def work() -> None:
            log = await filled(memory_log(), self.history)  # the same one, for another event loop
            await run_once(log, self._directory, subscriber=self._subscriber)

        self._machine.run(work)


def on(machine: Machine, directory: Path, given: Local | None = None) -> Acting:
    return Acting(machine, directory, acting(given if given is not None else Local(site=SITE)))


def planned(*events: Event) -> Happened:
    return Happened("plan", events)


def rules(machine: Machine, about: str) -> list[dict[str, Any]]:
    """The rules in the kernel that name a rule of the plan."""
    found = [entry["rule"] for entry in machine.listed() if "rule" in entry]
    return [each for each in found if each.get("comment", "").startswith(f"{about} (")]


def counted(machine: Machine, about: str) -> int:
    """The packets that one of our rules has seen."""
    [rule] = rules(machine, about)
    [counter] = [each["counter"] for each in rule["expr"] if "counter" in each]
    packets: int = counter["packets"]
    return packets


def planned_subnet(name: str, prefix: str) -> Event:
    return SubnetDefined(subnet=Subnet(name=name, realm="default", prefixes=(parse_prefix(prefix),)))
