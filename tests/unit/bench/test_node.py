"""How `bench.node` cuts the way to an address into parts, and how it shows what it found."""

from __future__ import annotations

import socket
import subprocess
import sys

import msgspec
import pytest

from bench import node
from bench.idle_node import Idle
from bench.link_up import (
    DHCP,
    DNMS,
    OPTIMISTIC,
    PARTS,
    SIDES,
    SLAAC,
    LinkUp,
    Spread,
    measurable,
    parts_of,
    summary,
)
from bench.link_watch import ADVERTISED, ASKED, CONNECT, OFFER, SOLICIT, Way, kinds
from bench.node import Imported, Report
from bench.processes import Memory
from bench.pushes import Push, Pushes
from dnms.wire.datagrams import encode_solicit
from dnms.wire.messages import PORT, Solicit
from tests.house.tree import ROOT

MIB = 1 << 20
PACKETS = {SOLICIT: 11.5, OFFER: 11.625, CONNECT: 11.75}


def test_the_parts_of_a_way_are_all_of_it() -> None:
    way = Way(up=10.0, link_local=11.25, added=12.125, usable=13.125, settled=13.125, packets=PACKETS)
    parts = parts_of(way, welcomed=11.875, stored=12.0)
    assert parts is not None
    assert list(parts) == [each for each in PARTS if each != "answer, apply"]
    assert sum(parts.values()) == 3.125
    assert parts["DAD"] == 1.0
    measured = summary(DNMS.name, [parts, None])
    assert (measured.runs, measured.missed) == (2, 1)
    assert measured.usable == Spread(3125.0, 3125.0, 3125.0)
    assert measured.beyond_dad == Spread(875.0, 875.0, 875.0)


def test_a_moment_that_is_out_of_order_makes_one_part_of_two() -> None:
    way = Way(up=10.0, link_local=11.0, added=12.0, usable=13.0, settled=13.0, packets={SOLICIT: 9.0, CONNECT: 11.5})
    assert parts_of(way, welcomed=11.0, stored=11.75) == {
        "DAD of fe80::": 1.0,
        "until it has chosen": 0.5,
        "decision, on disk": 0.25,
        "apply": 0.25,
        "DAD": 1.0,
    }


def test_an_address_of_an_advertisement_is_there_when_that_comes() -> None:
    """The kernel tells of it when it has found no duplicate."""
    way = Way(up=10.0, link_local=11.0, added=12.5, usable=12.5, settled=12.5, packets={ADVERTISED: 11.25})
    assert parts_of(way) == {"DAD of fe80::": 1.0, "answer, apply": 0.25, "DAD": 1.25}


def test_a_node_that_never_had_an_address_has_no_parts() -> None:
    assert parts_of(Way(up=10.0, link_local=11.0)) is None


def frame(following: int, rest: bytes) -> bytes:
    return bytes(12) + b"\x86\xdd" + bytes(6) + bytes([following, 255]) + bytes(32) + rest.ljust(32, b"\0")


def udp(destination: int, data: bytes = b"") -> bytes:
    return (50_000).to_bytes(2) + destination.to_bytes(2) + bytes(4) + data


@pytest.mark.parametrize(
    ("sent", "kind"),
    [
        (frame(socket.IPPROTO_UDP, udp(PORT, encode_solicit(Solicit(nonce=bytes(16))))), SOLICIT),
        (frame(socket.IPPROTO_UDP, udp(547)), ASKED),
        (frame(socket.IPPROTO_ICMPV6, bytes([134])), ADVERTISED),
        (frame(0, bytes([socket.IPPROTO_ICMPV6, 0]) + bytes(6) + bytes([134])), ADVERTISED),
        (frame(socket.IPPROTO_TCP, bytes(2) + PORT.to_bytes(2) + bytes(9) + b"\x02"), CONNECT),
        (frame(socket.IPPROTO_TCP, bytes(2) + PORT.to_bytes(2) + bytes(9) + b"\x12"), None),
        (frame(socket.IPPROTO_UDP, udp(53)), None),
        (bytes(60), None),
    ],
)
def test_packets_are_known(sent: bytes, kind: str | None) -> None:
    assert list(kinds(sent)) == ([] if kind is None else [kind])
    for cut in range(len(sent)):
        list(kinds(sent[:cut]))


@pytest.mark.parametrize("module", ["full_ledger", "idle_node", "link_up", "pushes"])
def test_nothing_is_built_in_the_network_of_the_machine(module: str) -> None:
    arguments = ("--leases", "1", "--again", "1") if module == "full_ledger" else ()
    command = (sys.executable, "-m", f"bench.{module}", *arguments)
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "not a network namespace of its own" in done.stderr


def spread(value: float) -> Spread:
    return Spread(value, value, value)


def report(*, beyond: float, usable: float, rss: int, cpu: float, missing: list[str]) -> Report:
    sides = [summary(side.name, [{"DAD of fe80::": 1.0, "apply": 1.0, "DAD": 2.0}]) for side in SIDES]
    sides[0] = msgspec.structs.replace(sides[0], usable=spread(usable), beyond_dad=spread(beyond))
    sides[1] = msgspec.structs.replace(sides[1], usable=spread(1_000.0), beyond_dad=spread(10.0))
    memory = Memory(rss * MIB, rss * MIB, rss * MIB)
    return Report(
        loads=[0.5, 0.5, 0.5],
        cores=2,
        link_up=LinkUp([side for side in sides if not missing or side.side != DHCP.name], missing),
        pushes=Pushes(3, [Push(1.0, spread(20.0), spread(30.0), 30.0, 60.0)]),
        idle=Idle(memory, cpu, 10.0, 20),
        imports=[Imported("Python", 0.0, 9 * MIB, 4 * MIB)],
        seconds=1.0,
    )


def test_what_misses_a_goal_is_marked(capsys: pytest.CaptureFixture[str]) -> None:
    node.show(report(beyond=40.0, usable=3_000.0, rss=30, cpu=0.005, missing=[]))
    good = capsys.readouterr().out
    node.show(report(beyond=60.0, usable=5_000.0, rss=41, cpu=0.02, missing=["kea-dhcp6-server"]))
    bad = capsys.readouterr().out
    assert "✗" not in good
    assert "apt-get" not in good
    assert bad.count("✗") == 8
    assert "apt-get install kea-dhcp6-server" in " ".join(bad.split())


def test_what_is_not_installed_leaves_out_its_sides_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    assert measurable([]) == list(SIDES)
    assert measurable(["radvd"]) == [DNMS, OPTIMISTIC, DHCP]
    assert measurable(["kea-dhcp6-server"]) == [DNMS, OPTIMISTIC, SLAAC]
    for missing, code in (([], 0), (["radvd"], 3)):
        found = report(beyond=40.0, usable=3_000.0, rss=30, cpu=0.005, missing=missing)
        monkeypatch.setattr(node, "measure", lambda found=found, **_: found)
        monkeypatch.setattr(sys, "argv", ["node", "-o", "json"])
        assert node.main() == code
