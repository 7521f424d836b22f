"""Examples: what any events make of the journal."""

from __future__ import annotations

from dnms.events.address import AddressReleased
from dnms.events.codec import encode_event
from dnms.events.ip import parse_prefix
from dnms.events.node import NodeArrived, NodeIdentified
from dnms.events.plan import Pool, PoolDefined, PoolWithdrawn, Subnet, SubnetDefined
from dnms.events.recorded import Personal
from dnms.projections.example import ALICE, FIRST, SECOND, Example, happened

_EVENTS = "SELECT position >> 13, position & 8191, name, client, address, item FROM event ORDER BY 1, 2"

_WORDS = "SELECT text, position >> 13 FROM event_word JOIN event_text ON word = id ORDER BY id, position"
_PREFIX = parse_prefix("2001:db8::/64")
_IDENTIFIED = NodeIdentified(client=ALICE, duid=Personal(b"\x00\x04"), name=Personal("alice"))
_ARRIVED = NodeArrived(client=ALICE, subnet="lan")
_RELEASED = AddressReleased(address=FIRST, client=ALICE, iaid=7)
_LAST = _PREFIX.last.to_bytes(16)

EXAMPLES = (
    Example(
        title="every event has its position, and is kept as the log has it",
        log=(
            happened(
                "node.00",
                10,
                _IDENTIFIED,
                _ARRIVED,
            ),
            happened("seen.lan.east", 11),
            happened("ledger.lan", 12, _RELEASED),
        ),
        rows={
            "SELECT sequence, time, subject, actor, events FROM event_commit ORDER BY 1": [
                (1, 10, "dnms.example.node.00", "agent/east", 2),
                (2, 11, "dnms.example.seen.lan.east", "agent/east", 0),
                (3, 12, "dnms.example.ledger.lan", "agent/east", 1),
            ],
            _EVENTS: [
                (1, 0, "node.identified", ALICE, None, encode_event(_IDENTIFIED)),
                (1, 1, "node.arrived", ALICE, None, encode_event(_ARRIVED)),
                (3, 0, "address.released", ALICE, FIRST, encode_event(_RELEASED)),
            ],
        },
    ),
    Example(
        title="words lead to the events in which they stand; what was withdrawn is about what it was before",
        log=(
            happened("plan", 10, SubnetDefined(subnet=Subnet(name="lan", realm="home", prefixes=(_PREFIX,)))),
            happened("plan", 20, PoolDefined(pool=Pool(name="six", subnet="lan", first=FIRST, last=SECOND))),
            happened("plan", 30, PoolWithdrawn(name="six")),
        ),
        rows={
            _WORDS: [
                ("lan", 1),
                ("lan", 2),
                ("home", 1),
                (str(_PREFIX), 1),
                ("six", 2),
                ("six", 3),
                ("2001:db8::1", 2),
                ("2001:db8::2", 2),
            ],
            "SELECT part, position >> 13, subnet, first, last FROM event_part ORDER BY position": [
                ("subnet/lan", 1, "lan", _PREFIX.network, _LAST),
                ("pool/six", 2, "lan", FIRST, SECOND),
                ("pool/six", 3, "lan", FIRST, SECOND),
            ],
            "SELECT * FROM event_hour": [(0, 1, 3)],
        },
    ),
)
