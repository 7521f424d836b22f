"""A whole configuration, and what changed after it."""

from dnms.events.codec import encoder
from dnms.events.configuration import Difference, Snapshot
from dnms.events.node import NodeForgotten
from dnms.events.seen import ConfigurationChanged, ConfigurationRegistered
from dnms.projections.events.fold import INDEX_BITS
from dnms.projections.example import ALICE, BOB, Example, happened

SEEN = "seen.lan.east"


def _registered(client: bytes, kernel: str) -> ConfigurationRegistered:
    return ConfigurationRegistered(client=client, digest=bytes(32), snapshot=Snapshot(kernel=kernel))


EXAMPLES = (
    Example(
        title="a change follows what was registered, and a registration takes its place",
        log=(
            happened(SEEN, 10, _registered(ALICE, "6.1"), _registered(BOB, "6.1")),
            happened(SEEN, 20, ConfigurationChanged(client=ALICE, change=Difference(sysctls={"a": "1"}))),
            happened(SEEN, 30, ConfigurationChanged(client=ALICE, change=Difference(kernel="6.2"))),
            happened("seen.lan.west", 40, _registered(BOB, "6.3")),
        ),
        rows={
            "SELECT client, position, snapshot FROM configuration ORDER BY client": [
                (ALICE, None, encoder.encode(Snapshot(kernel="6.2", sysctls={"a": "1"}))),
                (BOB, 4 << INDEX_BITS, None),
            ]
        },
    ),
    Example(
        title="nothing is kept of a node that is forgotten",
        log=(
            happened(SEEN, 10, _registered(ALICE, "6.1")),
            happened("node.00", 20, NodeForgotten(client=ALICE)),
        ),
        rows={"SELECT count(*) FROM configuration": [(0,)]},
    ),
)
