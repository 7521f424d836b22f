"""Examples: what leases and registrations make of the history."""

from __future__ import annotations

from dnms.events.address import (
    AddressAllocated,
    AddressBlocked,
    AddressDeclined,
    AddressReleased,
    AddressRenewed,
    OutageGranted,
)
from dnms.events.configuration import InterfaceAddress, Link, Snapshot
from dnms.events.ip import parse_prefix
from dnms.events.link import AddressSighted, AddressVanished
from dnms.events.prefix import PrefixDelegated, PrefixDeprecated, PrefixExpired, PrefixRenewed
from dnms.events.seen import ConfigurationRegistered, HardwareContested, SessionClosed, SessionOpened
from dnms.projections.example import ALICE, BOB, FIRST, SECOND, Example, happened

_LEASES = (
    "SELECT address, subnet, since, sequence, event_index, event, client FROM history_lease ORDER BY 1, 2, 3, 4, 5"
)
_USES = "SELECT address, client, since, used, subnet, link, origin FROM history_use ORDER BY 1, 2, 3, sequence"
_SEEN = (
    "SELECT address, client, how, agent, since, seen, until, event FROM history_seen"
    " ORDER BY address, client, how, since, sequence, event_index, seen"
)

_BLOCK = parse_prefix("2001:db8:1:10::/60")


def _delegated(client: bytes) -> PrefixDelegated:
    return PrefixDelegated(
        prefix=_BLOCK, client=client, iaid=1, delegation="all", next_hop=FIRST, valid_until=100, horizon=400
    )


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
    Example(
        title="a node opens a session, another one from another address, and ends it",
        log=(
            happened("seen.lan.east", 10, SessionOpened(client=ALICE, peer=FIRST)),
            happened("seen.lan.east", 20, SessionOpened(client=ALICE, peer=SECOND)),
            happened("seen.lan.west", 25, SessionClosed(client=ALICE, why="bye")),  # which began before the log
            happened("seen.lan.east", 30, SessionClosed(client=ALICE, why="bye")),
        ),
        rows={
            _SEEN: [
                (FIRST, ALICE, "session", "east", 10, 1, None, "session.opened"),
                (FIRST, ALICE, "session", "east", 20, 0, None, "session.opened"),
                (SECOND, ALICE, "session", "east", 20, 1, None, "session.opened"),
                (SECOND, ALICE, "session", "east", 30, 0, None, "session.closed"),
            ],
            "SELECT * FROM history_session": [],
            "SELECT client, address FROM history_had": [(ALICE, FIRST), (ALICE, SECOND)],
        },
    ),
    Example(
        title="given in an outage and contested; met with the address of another, and with the hardware of an entry",
        log=(
            happened(
                "ledger.lan",
                50,
                OutageGranted(
                    address=FIRST,
                    client=ALICE,
                    iaid=1,
                    pool="six",
                    valid_until=90,
                    horizon=95,
                    happened=30,
                    contested=True,
                ),
                AddressBlocked(address=FIRST, client=BOB, blocked_until=900, cause=1),
            ),
            happened("seen.lan.east", 60, HardwareContested(client=ALICE, entered=BOB, contender=SECOND)),
        ),
        rows={
            _SEEN: [
                (FIRST, ALICE, "outage", "", 30, 1, 50, "outage.granted"),
                (FIRST, BOB, "blocked", "", 50, 1, 50, "address.blocked"),
                (SECOND, ALICE, "contested", "east", 60, 1, 60, "hardware.contested"),
            ],
            _LEASES: [],
        },
    ),
    Example(
        title="seen on the link, and still, with another machine, and no more",
        log=(
            happened("ledger.lan", 10, AddressSighted(address=FIRST, client=ALICE, form="low", since=10, until=90)),
            happened("ledger.lan", 50, AddressSighted(address=FIRST, client=ALICE, form="low", since=10, until=130)),
            happened(
                "ledger.lan",
                60,
                AddressVanished(address=FIRST, client=ALICE, last_seen=50),
                AddressSighted(address=FIRST, client=BOB, form="low", since=60, until=140),
            ),
            happened("ledger.lan", 80, AddressVanished(address=FIRST, client=BOB, last_seen=70)),
        ),
        rows={
            _SEEN: [
                (FIRST, ALICE, "link", "", 10, 1, None, "address.sighted"),
                (FIRST, ALICE, "link", "", 60, 0, None, "address.vanished"),
                (FIRST, BOB, "link", "", 60, 1, None, "address.sighted"),
                (FIRST, BOB, "link", "", 80, 0, None, "address.vanished"),
            ],
            "SELECT * FROM history_sighted": [],
        },
    ),
    Example(
        title="a prefix, two holders; a renewal changes nothing of who holds it",
        log=(
            happened("ledger.lan", 10, _delegated(ALICE)),
            happened(
                "ledger.lan",
                20,
                PrefixRenewed(prefix=_BLOCK, client=ALICE, iaid=1, next_hop=FIRST, valid_until=200, horizon=500),
                PrefixDeprecated(prefix=_BLOCK, client=ALICE, iaid=1, next_hop=FIRST, valid_until=30),
            ),
            happened("ledger.lan", 30, PrefixExpired(prefix=_BLOCK, client=ALICE, iaid=1, next_hop=FIRST)),
            happened("ledger.lan", 40, _delegated(BOB)),
        ),
        rows={
            "SELECT network, length, subnet, since, sequence, event, client, pool FROM history_prefix ORDER BY since": [
                (_BLOCK.network, 60, "lan", 10, 1, "prefix.delegated", ALICE, "all"),
                (_BLOCK.network, 60, "lan", 30, 3, "prefix.expired", None, ""),
                (_BLOCK.network, 60, "lan", 40, 4, "prefix.delegated", BOB, "all"),
            ],
            "SELECT length FROM history_length": [(60,)],
        },
    ),
)
