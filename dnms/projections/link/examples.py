"""Examples: what the links make of the journal."""

from __future__ import annotations

from dnms.events.ip import Prefix
from dnms.events.link import AddressSighted, AddressVanished, AlarmCleared, AlarmRaised
from dnms.projections.example import ALICE, BOB, FIRST, SECOND, Example, happened

_SIGHTED = (
    "SELECT address, subnet, client, form, lasting, sure, since, recorded, until, opened_sequence FROM link_sighted"
)
_ALARMS = "SELECT alarm, address, client, other, network, length, why, since, cleared, ended FROM link_alarm"
_NOBODY = bytes(16)


def _sighted(address: bytes, client: bytes, *, since: int, until: int) -> AddressSighted:
    return AddressSighted(
        address=address, client=client, form="random", lasting="stable", sure="likely", since=since, until=until
    )


EXAMPLES = (
    Example(
        title="seen, seen still, and gone",
        log=(
            happened("ledger.lan", 10, _sighted(FIRST, ALICE, since=10, until=90)),
            happened("ledger.lan", 50, _sighted(FIRST, ALICE, since=10, until=130)),
            happened("ledger.lan", 55, _sighted(SECOND, ALICE, since=55, until=140)),
            happened("ledger.lan", 60, AddressVanished(address=SECOND, client=ALICE, last_seen=58)),
        ),
        rows={_SIGHTED: [(FIRST, "lan", ALICE, "random", "stable", "likely", 10, 50, 130, 1)]},
    ),
    Example(
        title="an alarm is raised, cleared, and raised again; of two servers nobody knows the address",
        log=(
            happened("ledger.lan", 10, AlarmRaised(alarm="duplicate", address=FIRST, client=ALICE, other=BOB)),
            happened("ledger.lan", 20, AlarmCleared(alarm="duplicate", address=FIRST, client=ALICE, why="over")),
            happened("ledger.lan", 25, AlarmRaised(alarm="dhcp-server", address=_NOBODY, client=ALICE)),
            happened("ledger.lan", 26, AlarmRaised(alarm="dhcp-server", address=_NOBODY, client=BOB)),
            happened("ledger.lan", 27, AlarmCleared(alarm="dhcp-server", address=_NOBODY, client=ALICE, why="planned")),
            happened("ledger.lan", 30, AlarmRaised(alarm="duplicate", address=FIRST, client=BOB, other=ALICE)),
            happened(
                "ledger.lan", 40, AlarmRaised(alarm="scan", address=SECOND, client=BOB, prefix=Prefix(SECOND, 128))
            ),
        ),
        rows={
            f"{_ALARMS} ORDER BY since": [
                ("dhcp-server", _NOBODY, ALICE, None, None, None, "", 25, 27, "planned"),
                ("dhcp-server", _NOBODY, BOB, None, None, None, "", 26, None, ""),
                ("duplicate", FIRST, BOB, ALICE, None, None, "", 30, None, ""),
                ("scan", SECOND, BOB, None, SECOND, 128, "", 40, None, ""),
            ]
        },
    ),
)
