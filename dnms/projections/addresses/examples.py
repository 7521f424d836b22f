"""Examples: what leases and registrations make of the tables."""

from __future__ import annotations

from dnms.events.address import (
    AddressAllocated,
    AddressDeclined,
    AddressExpired,
    AddressHeld,
    AddressReleased,
    AddressRenewed,
    AddressUnheld,
    AddressWithdrawn,
)
from dnms.events.configuration import InterfaceAddress, Link, Snapshot
from dnms.events.seen import ConfigurationRegistered
from dnms.projections.example import ALICE, BOB, FIRST, OLD, SECOND, Example, happened

_LEASES = "SELECT address, subnet, state, client, since, valid_until, horizon FROM address_lease ORDER BY 1, 2"
_POSITIONS = "SELECT opened_sequence, opened_index, changed_sequence, changed_index FROM address_lease ORDER BY 1, 2"
_COUNTS = "SELECT subnet, pool, held, declined FROM address_count ORDER BY 1, 2"
_SEEN = "SELECT client, address, link, origin, valid_until, since, changed_sequence FROM address_seen ORDER BY 1, 2"


def _allocated(address: bytes, client: bytes, pool: str = "six") -> AddressAllocated:
    return AddressAllocated(address=address, client=client, iaid=1, pool=pool, valid_until=100, horizon=400)


def _registered(client: bytes, *addresses: tuple[bytes, str]) -> ConfigurationRegistered:
    snapshot = Snapshot(
        links=(Link(index=2, name="eth0"),),
        addresses=tuple(
            InterfaceAddress(interface=2, address=address, prefix_length=64, origin=origin, valid=60)
            for address, origin in addresses
        ),
    )
    return ConfigurationRegistered(client=client, digest=bytes(32), snapshot=snapshot)


EXAMPLES = (
    Example(
        title="a lease is given, renewed and given back",
        log=(
            happened("ledger.lan", 10, _allocated(FIRST, ALICE), _allocated(OLD, ALICE, "four")),
            happened(
                "ledger.lan",
                20,
                AddressRenewed(address=FIRST, client=ALICE, iaid=1, valid_until=450, horizon=800),
                AddressReleased(address=OLD, client=ALICE, iaid=1),
            ),
        ),
        rows={
            _LEASES: [(FIRST, "lan", "held", ALICE, 10, 450, 800)],
            _POSITIONS: [(1, 0, 2, 0)],
            _COUNTS: [("lan", "four", 0, 0), ("lan", "six", 1, 0)],
        },
    ),
    Example(
        title="expired and withdrawn leases are gone, and the address is free for others",
        log=(
            happened("ledger.lan", 10, _allocated(FIRST, ALICE), _allocated(SECOND, ALICE)),
            happened("ledger.lan", 500, AddressExpired(address=FIRST, client=ALICE, iaid=1)),
            happened("ledger.lan", 600, AddressWithdrawn(address=SECOND, client=ALICE, iaid=1)),
            happened("ledger.lan", 700, _allocated(FIRST, BOB)),
        ),
        rows={
            _LEASES: [(FIRST, "lan", "held", BOB, 700, 100, 400)],
            _COUNTS: [("lan", "six", 1, 0)],
        },
    ),
    Example(
        title="a declined address rests, and is counted so until it is given again",
        log=(
            happened("ledger.lan", 10, _allocated(FIRST, ALICE), _allocated(SECOND, ALICE)),
            happened(
                "ledger.lan",
                20,
                AddressDeclined(address=FIRST, client=ALICE, iaid=1, quarantined_until=900),
                AddressDeclined(address=SECOND, client=ALICE, iaid=1, quarantined_until=900),
            ),
            happened("ledger.lan", 1_000, _allocated(FIRST, BOB)),
        ),
        rows={
            _LEASES: [
                (FIRST, "lan", "held", BOB, 1_000, 100, 400),
                (SECOND, "lan", "declined", ALICE, 20, 900, 900),
            ],
            _COUNTS: [("lan", "six", 1, 1)],
        },
    ),
    Example(
        title="two realms have the same address",
        log=(
            happened("ledger.east", 10, _allocated(OLD, ALICE)),
            happened("ledger.west", 11, _allocated(OLD, BOB)),
            happened("ledger.east", 12, AddressReleased(address=OLD, client=ALICE, iaid=1)),
        ),
        rows={_LEASES: [(OLD, "west", "held", BOB, 11, 100, 400)]},
    ),
    Example(
        title="a registration replaces the one before it, and `since` goes on where nothing changed",
        log=(
            happened("seen.lan.east", 10, _registered(ALICE, (FIRST, "slaac"), (SECOND, "temporary"))),
            happened("seen.lan.west", 20, _registered(BOB, (FIRST, "slaac"))),
            happened("seen.lan.west", 30, _registered(ALICE, (FIRST, "slaac"), (OLD, "other"))),
        ),
        rows={
            _SEEN: [
                (ALICE, OLD, "eth0", "other", 60_000_030, 30, 3),
                (ALICE, FIRST, "eth0", "slaac", 60_000_030, 10, 3),
                (BOB, FIRST, "eth0", "slaac", 60_000_020, 20, 2),
            ],
        },
    ),
    Example(
        title="numbers that a node made up are cut to what a table can hold",
        log=(
            happened(
                "seen.lan.east",
                10,
                ConfigurationRegistered(
                    client=ALICE,
                    digest=bytes(32),
                    snapshot=Snapshot(
                        addresses=(
                            InterfaceAddress(
                                interface=(1 << 64) - 1,
                                address=FIRST,
                                prefix_length=(1 << 64) - 1,
                                origin="other",
                                flags=(1 << 64) - 1,
                                valid=(1 << 64) - 1,
                            ),
                        )
                    ),
                ),
            ),
        ),
        rows={"SELECT interface, valid_until FROM address_seen": [((1 << 63) - 1, (1 << 63) - 1)]},
    ),
    Example(
        title="a reservation is there with and without a lease, until it ends",
        log=(
            happened(
                "ledger.lan",
                10,
                AddressHeld(address=FIRST, client=ALICE, iaid=1),
                AddressHeld(address=SECOND, client=ALICE, iaid=2),
                AddressHeld(address=OLD, client=BOB, iaid=1),
            ),
            happened("ledger.lan", 20, _allocated(FIRST, ALICE), AddressUnheld(address=OLD, client=BOB, iaid=1)),
        ),
        rows={
            _LEASES: [(FIRST, "lan", "held", ALICE, 20, 100, 400)],
            "SELECT address, subnet, client, iaid, since, sequence, event_index FROM address_hold ORDER BY 1": [
                (FIRST, "lan", ALICE, 1, 10, 1, 0),
                (SECOND, "lan", ALICE, 2, 10, 1, 1),
            ],
        },
    ),
)
