"""Examples: what any events make of the journal."""

from __future__ import annotations

from dnms.events.address import AddressReleased
from dnms.events.node import NodeArrived, NodeIdentified
from dnms.events.recorded import Personal
from dnms.projections.example import ALICE, FIRST, Example, happened

_EVENTS = "SELECT position >> 13, position & 8191, name, client, address, fields FROM event ORDER BY 1, 2"

EXAMPLES = (
    Example(
        title="every event has its position; personal fields are text, defaults are left out",
        log=(
            happened(
                "node.00",
                10,
                NodeIdentified(client=ALICE, duid=Personal(b"\x00\x04"), name=Personal("alice")),
                NodeArrived(client=ALICE, subnet="lan"),
            ),
            happened("seen.lan.east", 11),
            happened("ledger.lan", 12, AddressReleased(address=FIRST, client=ALICE, iaid=7)),
        ),
        rows={
            "SELECT sequence, time, subject, actor, events FROM event_commit ORDER BY 1": [
                (1, 10, "dnms.example.node.00", "agent/east", 2),
                (2, 11, "dnms.example.seen.lan.east", "agent/east", 0),
                (3, 12, "dnms.example.ledger.lan", "agent/east", 1),
            ],
            _EVENTS: [
                (
                    1,
                    0,
                    "node.identified",
                    ALICE,
                    None,
                    f'{{"client":"{ALICE.hex()}","duid":"00:04","name":"alice"}}',
                ),
                (1, 1, "node.arrived", ALICE, None, f'{{"client":"{ALICE.hex()}","subnet":"lan"}}'),
                (
                    3,
                    0,
                    "address.released",
                    ALICE,
                    FIRST,
                    f'{{"address":"2001:db8::1","client":"{ALICE.hex()}","iaid":7}}',
                ),
            ],
        },
    ),
)
