"""What would be done to a node, before it is done; and nothing is done."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from dnms.cli.exits import NO, OK, USAGE
from dnms.events.configuration import InterfaceAddress, Link, Route, Snapshot
from dnms.events.ip import parse_address, parse_prefix
from dnms.events.node import NodeArrived, NodeIdentified
from dnms.events.recorded import Personal
from dnms.events.seen import ConfigurationRegistered
from tests.system.cli.conftest import ALPHA, BETA, HOUR, NOON, PLAN, Served, dnms, serving, write

KEEPING = PLAN.replace('name = "office"', 'name = "office"\npolicy = { keep = ["fd00::/8"], drain = 60 }', 1)
HAS = Snapshot(
    links=(
        Link(index=1, name="lo", up=True, carrier=True),
        Link(index=2, name="eth0", mtu=1500, up=True, carrier=True, state="up"),
    ),
    addresses=(
        InterfaceAddress(interface=1, address=parse_address("::1"), prefix_length=128, origin="loopback"),
        InterfaceAddress(interface=2, address=parse_address("fe80::a"), prefix_length=64, origin="link-local"),
        InterfaceAddress(
            interface=2, address=parse_address("2001:db8:6::9"), prefix_length=64, origin="slaac", preferred=9, valid=99
        ),
        InterfaceAddress(interface=2, address=parse_address("fd00::7"), prefix_length=64, origin="other"),
    ),
    routes=(
        Route(destination=parse_prefix("::/0"), interface=2, gateway=parse_address("fe80::1"), metric=1024, protocol=9),
    ),
    sysctls={"net/ipv6/conf/default/accept_ra": "1", "net/ipv6/conf/default/autoconf": "1"},
)


@pytest.fixture(scope="module")
def told(site: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    plan = tmp_path_factory.mktemp("keeping") / "plan.toml"
    plan.write_text(KEEPING)
    with serving(site) as served:
        assert dnms("plan", "apply", plan, environment=served.environment).code == OK
        identified = NodeIdentified(client=ALPHA, duid=Personal(ALPHA), name=Personal("alpha"))
        stranger = NodeIdentified(client=BETA, duid=Personal(BETA), name=Personal("beta"))
        registered = ConfigurationRegistered(client=ALPHA, digest=bytes(32), snapshot=HAS)
        write(
            served,
            [
                ("node.0a", NOON, (identified, NodeArrived(client=ALPHA, subnet="office"))),
                ("node.0b", NOON, (stranger,)),
                ("seen.office.east", NOON + HOUR, (registered,)),
            ],
        )
        yield served


def planned(told: Served, *words: str) -> dict[str, list[str]]:
    """What, by the change."""
    done = dnms("node", "plan", "alpha", *words, "-o", "json", environment=told.environment)
    assert done.code == OK, done.err
    found: dict[str, list[str]] = {}
    for step in json.loads(done.out)["steps"]:
        found.setdefault(step["change"], []).append(f"{step['kind']} {step['what']}")
    return found


def test_each_step_of_a_take_over_and_what_stays(told: Served) -> None:
    steps = planned(told)
    assert "setting net/ipv6/conf/eth0/accept_ra = 0" in steps["set"]
    (address,) = [each for each in steps["add"] if each.startswith("address")]
    assert address.startswith("address 2001:db8:1:1:")
    assert "route default via fe80::1 metric 512" in steps["add"]
    assert steps["deprecate"] == ["address 2001:db8:6::9/64", "address fd00::7/64"]
    assert steps["remove-later"] == ["address 2001:db8:6::9/64", "route default via fe80::1 metric 1024"]
    assert steps["stay"] == ["address fe80::a/64", "address fd00::7/64"]
    assert planned(told) == steps, "nothing was done, and it would be the same again"
    assert "address.allocated" not in dnms("event", "list", environment=told.environment).out


def test_as_if_the_policy_had_another_mode(told: Served) -> None:
    soft = planned(told, "--mode", "manage-ra-gateway")
    assert "route default via fe80::1 metric 512" not in soft["add"]
    assert [each for each in soft["remove-later"] if each.startswith("route")] == []
    assert planned(told, "--mode", "observe") == {"stay": ["link all of it"]}


def test_it_is_a_table_for_people(told: Served) -> None:
    out = " ".join(dnms("node", "plan", "alpha", environment=told.environment).out.split())
    assert "remove-later address 2001:db8:6::9/64 when it is proven, and no socket uses it or 60 s are over" in out
    assert "the policy keeps it" in out


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["beta"], NO, "has told no agent what it has yet"),
        (["nobody"], NO, "nobody"),
        (["alpha", "--interface", "eth7"], NO, "has no interface 'eth7'"),
        (["alpha", "--mode", "mange"], USAGE, "mode"),
    ],
)
def test_what_cannot_be_said_says_why(told: Served, words: list[str], code: int, says: str) -> None:
    done = dnms("node", "plan", *words, environment=told.environment)
    assert (done.code, says in done.err) == (code, True), done


def test_the_views_have_all_that_it_is_said_of(told: Served) -> None:
    shown = dnms("node", "show", "alpha", "-o", "json", environment=told.environment)
    assert len(json.loads(shown.out)["configuration"]["addresses"]) == len(msgspec.structs.astuple(HAS)[1])
