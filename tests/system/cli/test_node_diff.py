"""What a node has, and what it has otherwise at one moment than at another: of the API and of the views themselves."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from dnms.cli.exits import NO, OK, USAGE
from dnms.domain.configured import difference
from dnms.events.configuration import (
    AdvertisedPrefix,
    Advertisement,
    InterfaceAddress,
    Link,
    Resolver,
    Route,
    Router,
    Snapshot,
)
from dnms.events.ip import parse_address, parse_prefix
from dnms.events.node import NodeIdentified
from dnms.events.recorded import Personal
from dnms.events.seen import ConfigurationChanged, ConfigurationRegistered
from tests.system.cli.conftest import ALPHA, HOUR, NOON, Served, serving, write
from tests.system.cli.test_questions import Asked

ROUTER, ADDRESS, SLAAC = parse_address("fe80::1"), parse_address("2001:db8:6::9"), parse_prefix("2001:db8:6::/64")
FIRST = Snapshot(
    links=(Link(index=2, name="eth0", hardware=Personal(b"\2aaaaa"), mtu=1500, up=True, carrier=True, state="up"),),
    addresses=(
        InterfaceAddress(
            interface=2,
            address=parse_address("2001:db8:6::9"),
            prefix_length=64,
            origin="slaac",
            preferred=300,
            valid=600,
        ),
    ),
    routes=(Route(destination=parse_prefix("::/0"), interface=2, gateway=ROUTER, metric=1024, protocol=9),),
    sysctls={"net/ipv6/conf/eth0/accept_ra": "1"},
    kernel="6.1",
    host=Personal("alpha"),
    routers=(Router(interface=2, address=ROUTER),),
    advertisements=(
        Advertisement(
            interface=2,
            router=ROUTER,
            lifetime=1800,
            managed=True,
            prefixes=(AdvertisedPrefix(prefix=SLAAC, on_link=True, autonomous=True, valid=600),),
            dns=(parse_address("2001:db8::53"),),
        ),
    ),
)
SECOND = msgspec.structs.replace(
    FIRST,
    addresses=(msgspec.structs.replace(FIRST.addresses[0], preferred=0, valid=200, flags=0x20),),
    routes=(Route(destination=parse_prefix("::/0"), interface=2, gateway=ROUTER, metric=512, protocol=200),),
    resolver=Resolver(servers=(parse_address("2001:db8::53"),)),
    sysctls={"net/ipv6/conf/eth0/accept_ra": "0"},
)
THIRD = msgspec.structs.replace(SECOND, addresses=(), kernel="6.2")

THEN = ["2026-03-01T12:30:00Z", "2026-03-01T13:30:00Z", "2026-03-01T14:30:00Z"]


@pytest.fixture(scope="module")
def told(site: Path) -> Iterator[Served]:
    with serving(site) as served:
        write(
            served,
            [
                ("node.0a", NOON, (NodeIdentified(client=ALPHA, duid=Personal(ALPHA), name=Personal("alpha")),)),
                ("seen.lan.east", NOON, (ConfigurationRegistered(client=ALPHA, digest=bytes(32), snapshot=FIRST),)),
                ("seen.lan.east", NOON + HOUR, (ConfigurationChanged(client=ALPHA, change=difference(FIRST, SECOND)),)),
                (
                    "seen.lan.east",
                    NOON + 2 * HOUR,
                    (ConfigurationChanged(client=ALPHA, change=difference(SECOND, THIRD)),),
                ),
            ],
        )
        yield served


@pytest.fixture
def ask(told: Served, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Asked:
    return Asked(told, capfd, monkeypatch)


def test_all_of_a_node_is_shown_as_it_was_and_as_it_is(ask: Asked) -> None:
    code, out, _ = ask.api(f"node show alpha --at {THEN[0]}")
    assert code == OK
    said = " ".join(out.split())
    for words in (
        "2001:db8:6::9/64 slaac on eth0",
        "eth0 up - 02:61:61:61:61:61 1500",
        "default fe80::1 eth0 1024 ra",
        "fe80::1 eth0 default route, M medium 1800 s 2001:db8:6::/64 (on link, SLAAC) 2001:db8::53",
        "net/ipv6/conf/eth0/accept_ra 1",
        "host name alpha",
    ):
        assert words in said
    assert "deprecated" in ask.api(f"node show alpha --at {THEN[1]}")[1]
    now = ask.api("node show alpha")[1]
    assert "2001:db8:6::9" not in now
    assert "default      fe80::1  eth0  512     dnms" in now


def test_the_configuration_is_what_was_registered_and_what_changed_after_it(ask: Asked) -> None:
    kernels = [json.loads(ask.api(f"node show alpha --at {at} -o json")[1])["configuration"]["kernel"] for at in THEN]
    assert kernels == ["6.1", "6.1", "6.2"]


@pytest.mark.parametrize(
    ("times", "changes"),
    [
        (
            f"--from {THEN[0]} --to {THEN[1]}",
            ["changed address", "removed route", "added route", "changed setting", "added resolver"],
        ),
        (f"--from {THEN[1]}", ["removed address", "changed kernel"]),
        (f"--from {THEN[2]}", []),
    ],
)
def test_what_is_otherwise_and_which_events_say_so(ask: Asked, times: str, changes: list[str]) -> None:
    code, out, _ = ask.api(f"node diff alpha {times} -o json")
    assert code == (OK if changes else NO)
    found = json.loads(out)
    assert [f"{each['change']} {each['what']}" for each in found["changes"]] == changes
    assert [event["name"] for event in found["events"]] == ["configuration.changed"] * bool(changes)


@pytest.mark.parametrize("output", ["table", "json"])
def test_the_api_and_the_views_say_the_same(ask: Asked, output: str) -> None:
    asked = f"node diff alpha --from {THEN[0]} -o {output}"
    assert ask.api(asked)[:2] == ask.data(asked)[:2]


def test_a_difference_is_for_people_too(ask: Asked) -> None:
    out = " ".join(ask.api(f"node diff alpha --from {THEN[0]} --to {THEN[1]}")[1].split())
    assert "changed address" in out
    assert "flags deprecated" in out
    assert "protocol ra" in out
    assert "protocol dnms" in out


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (f"alpha --from {THEN[1]} --to {THEN[0]}", USAGE, "--from is behind --to"),
        (f"nobody --from {THEN[0]}", NO, "there is no node"),
        ("alpha --from 1999-01-01", NO, "nothing had happened"),
        ("alpha", USAGE, "--from"),
    ],
)
def test_what_cannot_be_answered_says_why(ask: Asked, words: str, code: int, says: str) -> None:
    done = ask.api(f"node diff {words}")
    assert done[0] == code
    assert says in done[2]
