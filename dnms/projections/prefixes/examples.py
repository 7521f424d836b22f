"""Examples: what delegations and prefixes from above make of the tables."""

from __future__ import annotations

from dnms.events.ip import Prefix, parse_address, parse_prefix
from dnms.events.plan import AdoptedPlan, PlanAdopted, Subnet
from dnms.events.prefix import (
    PrefixDelegated,
    PrefixDeprecated,
    PrefixExpired,
    PrefixReleased,
    PrefixRenewed,
    PrefixWithdrawn,
)
from dnms.events.uplink import Source, UplinkDeprecated, UplinkLost, UplinkReceived
from dnms.projections.example import ALICE, BOB, Example, happened

ABOVE, OTHER = parse_prefix("2001:db8:1::/56"), parse_prefix("2001:db8:2::/56")
BLOCK, NEXT = parse_prefix("2001:db8:1:10::/60"), parse_prefix("2001:db8:1:20::/60")
OWN = parse_prefix("2001:db8:1::/64")
HOP, MOVED = parse_address("fe80::a"), parse_address("fe80::b")
ISP = Source(name="dhcpv6 00:03:00:01:02")

_DELEGATIONS = (
    "SELECT network, subnet, state, client, next_hop, since, until, horizon FROM prefix_delegation ORDER BY 1, 2"
)
_POSITIONS = (
    "SELECT opened_sequence, opened_index, changed_sequence, changed_index FROM prefix_delegation ORDER BY network"
)
_UPLINKS = "SELECT network, subnet, state, uplink, since, until, valid_until, why FROM prefix_uplink ORDER BY 1, 2"
_LINKS = "SELECT network, length, subnet, plan, sequence, event_index FROM prefix_link ORDER BY 1, 2, 3"


def delegated(client: bytes, prefix: Prefix = BLOCK, *, until: int = 100) -> PrefixDelegated:
    """A client is given a prefix."""
    return PrefixDelegated(
        prefix=prefix,
        client=client,
        iaid=1,
        delegation="to-laptops",
        next_hop=HOP,
        interface="eth1",
        group=7,
        counter=2,
        exclude=None,
        valid_until=until,
        horizon=4 * until,
    )


def received(prefix: Prefix = ABOVE, *, until: int = 1_000, source: Source = ISP) -> UplinkReceived:
    """A prefix comes from above."""
    return UplinkReceived(uplink="wan", prefix=prefix, preferred_until=until, valid_until=until, source=source)


def adopted(*prefixes: Prefix, plan: int = 1) -> PlanAdopted:
    """A ledger adopts what the link has."""
    subnet = Subnet(name="home", realm="default", prefixes=prefixes)
    return PlanAdopted(plan=AdoptedPlan(position=plan, level=1, subnet=subnet))


EXAMPLES = (
    Example(
        title="a prefix is delegated, renewed at another address, deprecated and given back; another one expires",
        log=(
            happened("ledger.home", 10, delegated(ALICE), delegated(BOB, NEXT)),
            happened(
                "ledger.home",
                20,
                PrefixRenewed(prefix=BLOCK, client=ALICE, iaid=1, next_hop=MOVED, valid_until=300, horizon=900),
                PrefixDeprecated(prefix=NEXT, client=BOB, iaid=1, next_hop=HOP, valid_until=50),
            ),
            happened("ledger.home", 30, PrefixReleased(prefix=BLOCK, client=ALICE, iaid=1, next_hop=MOVED)),
            happened("ledger.home", 500, PrefixExpired(prefix=NEXT, client=BOB, iaid=1, next_hop=HOP)),
        ),
        rows={
            _DELEGATIONS: [
                (BLOCK.network, "home", "released", ALICE, MOVED, 10, 30, 900),
                (NEXT.network, "home", "expired", BOB, HOP, 10, 500, 400),
            ],
            _POSITIONS: [(1, 0, 3, 0), (1, 1, 4, 0)],
            "SELECT state FROM prefix_delegation_row WHERE network = x'20010db8000100200000000000000000'"
            " ORDER BY from_sequence": [("delegated",), ("deprecated",), ("expired",)],
        },
    ),
    Example(
        title="the same prefix is delegated to somebody else, and in the ledger of another subnet",
        log=(
            happened("ledger.home", 10, delegated(ALICE)),
            happened("ledger.home", 20, PrefixWithdrawn(prefix=BLOCK, client=ALICE, iaid=1, next_hop=HOP)),
            happened("ledger.home", 30, delegated(BOB)),
            happened("ledger.other", 40, delegated(ALICE)),
        ),
        rows={
            _DELEGATIONS: [
                (BLOCK.network, "home", "delegated", BOB, HOP, 30, None, 400),
                (BLOCK.network, "other", "delegated", ALICE, HOP, 40, None, 400),
            ],
            "SELECT pool, link, member_of, counter, iaid, excluded FROM prefix_delegation": [
                ("to-laptops", "eth1", 7, 2, 1, ""),
                ("to-laptops", "eth1", 7, 2, 1, ""),
            ],
        },
    ),
    Example(
        title="a prefix from above lasts longer, is deprecated and lost, and comes again",
        log=(
            happened("ledger.home", 10, received()),
            happened("ledger.home", 20, received(until=2_000)),
            happened(
                "ledger.home",
                30,
                received(OTHER),
                UplinkDeprecated(uplink="wan", prefix=ABOVE, valid_until=1_500, source=ISP),
            ),
            happened("ledger.home", 40, UplinkLost(uplink="wan", prefix=ABOVE, why="cut")),
            happened("ledger.home", 50, UplinkLost(uplink="wan", prefix=OTHER, why="expired"), received()),
        ),
        rows={
            _UPLINKS: [
                (ABOVE.network, "home", "received", "wan", 50, None, 1_000, ""),
                (OTHER.network, "home", "lost", "wan", 30, 50, 1_000, "expired"),
            ],
            "SELECT state, valid_until, until, why, from_sequence FROM prefix_uplink_row"
            f" WHERE network = x'{ABOVE.network.hex()}' ORDER BY from_sequence": [
                ("received", 1_000, None, "", 1),
                ("received", 2_000, None, "", 2),
                ("deprecated", 1_500, None, "", 3),
                ("lost", 1_500, 40, "cut", 4),
                ("received", 1_000, None, "", 5),
            ],
        },
    ),
    Example(
        title="what a link has by its plan: what stays, stays by the plan that brought it",
        log=(
            happened("ledger.home", 10, received(), adopted(OWN, plan=3)),
            happened("ledger.home", 20, adopted(BLOCK, OWN, plan=4)),
            happened("ledger.home", 30, adopted(BLOCK, plan=5)),
        ),
        rows={
            _LINKS: [(BLOCK.network, 60, "home", 4, 2, 0)],
            "SELECT network, from_sequence, until_sequence FROM prefix_link_row WHERE until_sequence < 9": [
                (OWN.network, 1, 3)
            ],
        },
    ),
    Example(
        title="events of what the log says nothing of before",
        log=(
            happened(
                "ledger.home",
                10,
                PrefixReleased(prefix=BLOCK, client=ALICE, iaid=1, next_hop=HOP),
                UplinkLost(uplink="wan", prefix=ABOVE, why="cut"),
            ),
        ),
        rows={_DELEGATIONS: [], _UPLINKS: []},
    ),
)
