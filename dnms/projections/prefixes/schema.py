"""The tables of the prefixes."""

from dnms.projections.versions import Table

_KEY = {"network": "BLOB NOT NULL", "length": "INTEGER NOT NULL", "subnet": "TEXT NOT NULL"}
_PLACES = {
    "opened_sequence": "INTEGER NOT NULL",
    "opened_index": "INTEGER NOT NULL",
    "changed_sequence": "INTEGER NOT NULL",
    "changed_index": "INTEGER NOT NULL",
}

DELEGATION = Table(  # what a subnet's ledger has cut, and to whom it gave that last
    name="prefix_delegation",
    key=_KEY,
    columns={
        "state": "TEXT NOT NULL",  # delegated, deprecated, released, expired, withdrawn
        "client": "BLOB NOT NULL",
        "iaid": "INTEGER NOT NULL",
        "pool": "TEXT NOT NULL",
        "next_hop": "BLOB NOT NULL",
        "link": "TEXT NOT NULL",  # name of the interface of the agent that answered
        "member_of": "INTEGER NOT NULL",  # number of the group, 0 for none
        "counter": "INTEGER NOT NULL",
        "excluded": "TEXT NOT NULL",  # prefix, or empty
        "since": "INTEGER NOT NULL",
        "until": "INTEGER",  # NULL: it is not over
        "valid_until": "INTEGER NOT NULL",  # as far as the log knows
        "horizon": "INTEGER NOT NULL",
        **_PLACES,
    },
    indexes=("client",),
)
UPLINK = Table(  # what the router of a subnet has from above
    name="prefix_uplink",
    key=_KEY,
    columns={
        "state": "TEXT NOT NULL",  # received, deprecated, lost
        "uplink": "TEXT NOT NULL",
        "source": "TEXT NOT NULL",
        "source_log": "TEXT NOT NULL",  # empty: none that is known
        "source_sequence": "INTEGER NOT NULL",
        "excluded": "TEXT NOT NULL",
        "since": "INTEGER NOT NULL",
        "until": "INTEGER",
        "preferred_until": "INTEGER NOT NULL",
        "valid_until": "INTEGER NOT NULL",
        "why": "TEXT NOT NULL",  # it was lost; empty: it is not
        **_PLACES,
    },
)
LINK = Table(  # the own prefixes of a subnet, by the plan that its ledger has adopted
    name="prefix_link",
    key=_KEY,
    columns={"plan": "INTEGER NOT NULL", "sequence": "INTEGER NOT NULL", "event_index": "INTEGER NOT NULL"},
    indexes=("subnet",),
)
TABLES = (DELEGATION, UPLINK, LINK)

SCHEMA = "".join(table.schema for table in TABLES) + (
    "CREATE TABLE prefix_subnet (subnet TEXT NOT NULL, network BLOB NOT NULL, length INTEGER NOT NULL,"
    " PRIMARY KEY (subnet, network, length)) WITHOUT ROWID;"  # the links' own that stand, for the fold
)
INDEXES = (
    *(statement for table in TABLES for statement in table.asked_by),
    "CREATE INDEX prefix_uplink_by_subnet ON prefix_uplink_row (subnet)",
    "CREATE INDEX prefix_delegation_by_opening ON prefix_delegation_row (opened_sequence)",
)
PAST = tuple(table.past for table in TABLES)
