"""Examples: what leases and registrations make of the history."""

from __future__ import annotations

from dnms.events.address import AddressAllocated, AddressDeclined, AddressReleased, AddressRenewed
from dnms.events.configuration import InterfaceAddress, Link, Snapshot
from dnms.events.seen import ConfigurationRegistered
from dnms.projections.example import ALICE, BOB, FIRST, SECOND, Example, happened

_LEASES = (
    "SELECT address, subnet, since, sequence, event_index, event, client FROM history_lease ORDER BY 1, 2, 3, 4, 5"
)
_USES = "SELECT address, client, since, used, subnet, link, origin FROM history_use ORDER BY 1, 2, 3, sequence"


def _allocated(client: bytes) -> AddressAllocated:
    return AddressAllocated(address=FIRST, client=client, iaid=1, pool="six", valid_until=100, horizon=400)


def _registered(client: bytes, *addresses: tuple[bytes, str]) -> ConfigurationRegistered:
    snapshot = Snapshot(
        links=(Link(index=1, name="lo"), Link(index=2, name="eth0")),
        addresses=tuple(
            InterfaceAddress(
                interface=1 if origin == "loopback" else 2, address=address, prefix_length=64, origin=origin
            )
            for address, origin in addresses
        ),
    )
    return ConfigurationRegistered(client=client, digest=bytes(32), snapshot=snapshot)


EXAMPLES = (
    Example(
        title="one address, three holders; a renewal changes nothing of who holds it",
        log=(
            happened("ledger.lan", 10, _allocated(ALICE)),
            happened(
                "ledger.lan", 20, AddressRenewed(address=FIRST, client=ALICE, iaid=1, valid_until=200, horizon=500)
            ),
            happened("ledger.lan", 30, AddressReleased(address=FIRST, client=ALICE, iaid=1), _allocated(BOB)),
            happened("ledger.lan", 40, AddressDeclined(address=FIRST, client=BOB, iaid=1, quarantined_until=900)),
        ),
        rows={
            _LEASES: [
                (FIRST, "lan", 10, 1, 0, "address.allocated", ALICE),
                (FIRST, "lan", 30, 3, 0, "address.released", None),
                (FIRST, "lan", 30, 3, 1, "address.allocated", BOB),
                (FIRST, "lan", 40, 4, 0, "address.declined", None),
            ]
        },
    ),
    Example(
        title="registered, registered again, registered otherwise, and no longer; loopback addresses say nothing",
        log=(
            happened("seen.lan.east", 10, _registered(ALICE, (FIRST, "slaac"), (SECOND, "loopback"))),
            happened("seen.lan.east", 20, _registered(ALICE, (FIRST, "slaac"))),
            happened("seen.lan.east", 30, _registered(ALICE, (FIRST, "managed"))),
            happened("seen.lan.east", 40, _registered(ALICE)),
        ),
        rows={
            _USES: [
                (FIRST, ALICE, 10, 1, "lan", "eth0", "slaac"),
                (FIRST, ALICE, 30, 1, "lan", "eth0", "managed"),
                (FIRST, ALICE, 40, 0, "lan", "eth0", "managed"),
            ],
            "SELECT * FROM history_using": [],
        },
    ),
    Example(
        title="two agents' clocks differ, and yet what is later in the log is not earlier in time",
        log=(
            happened("seen.lan.east", 20, _registered(ALICE, (FIRST, "slaac"))),
            happened("seen.lab.west", 15, _registered(ALICE)),
        ),
        rows={
            _USES: [
                (FIRST, ALICE, 20, 1, "lan", "eth0", "slaac"),
                (FIRST, ALICE, 20, 0, "lab", "eth0", "slaac"),
            ]
        },
    ),
)
