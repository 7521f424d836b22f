"""Examples: what the families `node` and `seen` make of the tables."""

from __future__ import annotations

from dnms.events.configuration import Generation, InterfaceAddress, Snapshot
from dnms.events.node import (
    NodeArrived,
    NodeEntered,
    NodeForgotten,
    NodeIdentified,
    NodeJoined,
    NodeParted,
    NodeReady,
)
from dnms.events.recorded import Personal
from dnms.events.seen import (
    AppliedItem,
    ConfigurationApplied,
    ConfigurationContested,
    ConfigurationDrifted,
    ConfigurationRegistered,
    DriftItem,
    SessionClosed,
    SessionOpened,
)
from dnms.projections.example import ALICE, BOB, FIRST, SECOND, Example, happened

CAROL, DAVE, ERIN = (bytes([number]) * 16 for number in (0x20, 0x30, 0x40))

_SEEN = "FROM node JOIN node_last USING (client) ORDER BY 1"
_NODES = f"SELECT client, name, duid, hardware, subnet, arrived, first_seen, time {_SEEN}"
_SESSIONS = "SELECT client, subnet, agent, open, peer, since, why FROM node_session ORDER BY 1, 2, 3"


def _identified(name: str) -> NodeIdentified:
    return NodeIdentified(
        client=ALICE, duid=Personal(b"\x00\x04\x01"), name=Personal(name), hardware=(Personal(b"\x02\x00"),)
    )


EXAMPLES = (
    Example(
        title="a node says who it is, changes its name, and moves",
        log=(
            happened("node.00", 10, _identified("old"), NodeArrived(client=ALICE, subnet="lan")),
            happened("node.00", 20, _identified("new")),
            happened("node.00", 30, NodeArrived(client=ALICE, subnet="lab", left="lan")),
        ),
        rows={_NODES: [(ALICE, "new", "00:04:01", '["02:00"]', "lab", 30, 10, 30)]},
    ),
    Example(
        title="a node is seen before it is identified, as two subjects have no order",
        log=(
            happened("seen.lan.east", 12, SessionOpened(client=ALICE, peer=FIRST)),
            happened("node.00", 10, _identified("alice")),
            happened("seen.lan.east", 13, SessionOpened(client=BOB, peer=SECOND)),
        ),
        rows={
            _NODES: [
                (ALICE, "alice", "00:04:01", '["02:00"]', "", None, 10, 10),
                (BOB, None, None, "[]", "", None, 13, 13),
            ]
        },
    ),
    Example(
        title="sessions with two agents, one of which is closed",
        log=(
            happened("seen.lan.east", 10, SessionOpened(client=ALICE, peer=FIRST)),
            happened("seen.lan.west", 20, SessionOpened(client=ALICE, peer=FIRST)),
            happened("seen.lan.east", 30, SessionClosed(client=ALICE, why="bye")),
        ),
        rows={
            _SESSIONS: [
                (ALICE, "lan", "east", 0, FIRST, 30, "bye"),
                (ALICE, "lan", "west", 1, FIRST, 20, ""),
            ]
        },
    ),
    Example(
        title="a node that comes back when it is forgotten has registered nothing",
        log=(
            happened("seen.lan.east", 10, ConfigurationRegistered(client=ALICE, digest=bytes(32), snapshot=Snapshot())),
            happened("node.00", 20, NodeForgotten(client=ALICE)),
            happened("seen.lan.east", 30, SessionOpened(client=ALICE, peer=FIRST)),
        ),
        rows={"SELECT client, time, registered FROM node_last": [(ALICE, 30, None)]},
    ),
    Example(
        title="the last registration and the last application are kept",
        log=(
            happened(
                "seen.lan.east",
                10,
                ConfigurationRegistered(client=ALICE, digest=bytes(32), snapshot=Snapshot(kernel="6.1")),
                ConfigurationApplied(client=ALICE, generation=Generation(0, 1, 1)),
            ),
            happened(
                "seen.lan.east",
                20,
                ConfigurationRegistered(
                    client=ALICE,
                    digest=bytes(32),
                    snapshot=Snapshot(
                        addresses=(InterfaceAddress(interface=2, address=FIRST, prefix_length=64, origin="managed"),)
                    ),
                ),
                ConfigurationApplied(
                    client=ALICE,
                    generation=Generation(0, 3, (1 << 64) - 1),
                    items=(AppliedItem(address=FIRST, outcome="usable"),),
                ),
            ),
        ),
        rows={
            "SELECT client, time, registered >> 13, registered & 8191 FROM node_last": [(ALICE, 20, 2, 0)],
            "SELECT client, time, plan, ledger, sequence, event_index FROM node_application": [
                (ALICE, 20, 3, (1 << 63) - 1, 2, 1)
            ],
        },
    ),
    Example(
        title="what somebody else changed last is kept for each subnet, and what was given up takes its place",
        log=(
            happened(
                "seen.lan.east",
                10,
                ConfigurationDrifted(
                    client=ALICE,
                    generation=Generation(0, 1, 1),
                    items=(DriftItem(kind="mtu", change="changed", was="1500", now="1280"),),
                    action="restored",
                ),
            ),
            happened(
                "seen.lab.east",
                15,
                ConfigurationDrifted(
                    client=ALICE,
                    generation=Generation(0, 1, 1),
                    items=(DriftItem(kind="link", change="changed", was="up", now="down"),),
                    action="reported",
                    more=2,
                ),
            ),
            happened(
                "seen.lan.east",
                20,
                ConfigurationContested(
                    client=ALICE,
                    generation=Generation(0, 1, 1),
                    items=(DriftItem(kind="mtu", change="changed", was="1500", now="1280"),),
                    rival="dhcpcd",
                    restored=5,
                    within=60,
                    hold=900,
                ),
            ),
        ),
        rows={
            "SELECT client, subnet, time, action, rival, more FROM node_drift ORDER BY 2": [
                (ALICE, "lab", 15, "reported", "", 2),
                (ALICE, "lan", 20, "contested", "dhcpcd", 0),
            ],
        },
    ),
    Example(
        title="a node is entered before it comes; what it says of itself wins; one that is forgotten begins anew",
        log=(
            happened(
                "node.00",
                10,
                NodeEntered(client=ALICE, duid=Personal(b"\0\4\1"), name=Personal("a"), iaid=1, group="voip"),
                NodeReady(client=ALICE),
            ),
            happened("node.10", 11, NodeEntered(client=BOB, duid=Personal(b"\0\4\2"), name=Personal("b"), iaid=1)),
            happened("node.00", 20, NodeIdentified(client=ALICE, duid=Personal(b"\0\4\1"), name=Personal("alice"))),
            happened(
                "node.10",
                30,
                NodeForgotten(client=BOB),
                NodeIdentified(client=BOB, duid=Personal(b"\0\4\2"), name=Personal("bob")),
            ),
        ),
        rows={
            f"SELECT client, name, duid, entered, entered_group, ready, first_seen, time {_SEEN}": [
                (ALICE, "alice", "00:04:01", 10, "voip", 1, 10, 20),
                (BOB, "bob", "00:04:02", None, "", 0, 30, 30),
            ]
        },
    ),
    Example(
        title="what was entered by a hardware address is joined into the node that has it, and parted; or forgotten",
        log=(
            happened(
                "node.10",
                10,
                NodeEntered(
                    client=BOB, duid=Personal(b"\0\3"), name=Personal("web"), iaid=1, hardware=(Personal(b"\x02\0"),)
                ),
                NodeJoined(client=BOB, into=ALICE, hardware=Personal(b"\x02\0")),
            ),
            happened("node.20", 20, NodeJoined(client=CAROL, into=ALICE)),
            happened("node.10", 30, NodeJoined(client=BOB, into=CAROL)),
            happened("node.20", 40, NodeParted(client=CAROL)),
            happened(
                "node.30",
                50,
                NodeEntered(client=DAVE, duid=Personal(b"\0\3"), name=Personal("dave"), iaid=1),
                NodeReady(client=DAVE),
                NodeJoined(client=DAVE, into=ALICE),
                NodeParted(client=DAVE),
            ),
            happened("node.40", 60, NodeJoined(client=ERIN, into=ALICE), NodeForgotten(client=ERIN)),
        ),
        rows={
            "SELECT client, into_client FROM node_join": [(BOB, CAROL)],
            "SELECT client, name, hardware, entered, ready FROM node ORDER BY 1": [
                (BOB, "web", '["02:00"]', 10, 0),
                (CAROL, None, "[]", None, 0),
                (DAVE, "dave", "[]", None, 0),
            ],
        },
    ),
)
