"""The tables of the addresses."""

from dnms.projections.versions import AS_OF, STANDS, Table

LEASE = Table(  # an address is unique in its realm, so in its subnet, and not in the site
    name="address_lease",
    key={"address": "BLOB NOT NULL", "subnet": "TEXT NOT NULL"},
    columns={
        "state": "TEXT NOT NULL",  # held, declined, blocked
        "client": "BLOB NOT NULL",  # who holds it, who declined it, or who uses it
        "iaid": "INTEGER NOT NULL",
        "pool": "TEXT NOT NULL",
        "member_of": "INTEGER NOT NULL",  # number of the group, 0 for none
        "counter": "INTEGER NOT NULL",
        "since": "INTEGER NOT NULL",
        "valid_until": "INTEGER NOT NULL",  # as far as the log knows; of a declined one: end of its quarantine
        "horizon": "INTEGER NOT NULL",
        "opened_sequence": "INTEGER NOT NULL",
        "opened_index": "INTEGER NOT NULL",
        "changed_sequence": "INTEGER NOT NULL",
        "changed_index": "INTEGER NOT NULL",
    },
    indexes=("client",),
)
HOLD = Table(  # reserved for a client, whether it has it or not
    name="address_hold",
    key={"address": "BLOB NOT NULL", "subnet": "TEXT NOT NULL"},
    columns={
        "client": "BLOB NOT NULL",
        "iaid": "INTEGER NOT NULL",
        "since": "INTEGER NOT NULL",
        "sequence": "INTEGER NOT NULL",
        "event_index": "INTEGER NOT NULL",
    },
    indexes=("client",),
)
SEEN = Table(  # the last registration of each node
    name="address_seen",
    key={"client": "BLOB NOT NULL", "interface": "INTEGER NOT NULL", "address": "BLOB NOT NULL"},
    columns={
        "subnet": "TEXT NOT NULL",  # where it was registered
        "link": "TEXT NOT NULL",  # name of the interface
        "prefix_length": "INTEGER NOT NULL",
        "origin": "TEXT NOT NULL",
        "flags": "INTEGER NOT NULL",
        "preferred_until": "INTEGER",  # NULL: for ever
        "valid_until": "INTEGER",
        "since": "INTEGER NOT NULL",  # registered without a break
        "changed_sequence": "INTEGER NOT NULL",
        "changed_index": "INTEGER NOT NULL",
    },
    indexes=("address",),
)
TABLES = (LEASE, HOLD, SEEN)

COUNT = """
CREATE TABLE address_count (       -- a count of rows would cost milliseconds
    subnet TEXT NOT NULL,
    pool TEXT NOT NULL,
    held INTEGER NOT NULL,
    declined INTEGER NOT NULL,
    PRIMARY KEY (subnet, pool)
) WITHOUT ROWID;
"""
_NOW = f"WHERE until_sequence = {STANDS}"
INDEXES = (
    *(statement for table in TABLES for statement in table.asked_by),
    f"CREATE INDEX address_lease_by_subnet ON address_lease_row (subnet, address) {_NOW}",
    f"CREATE INDEX address_lease_by_pool ON address_lease_row (subnet, pool, address) {_NOW}",
    f"CREATE INDEX address_lease_by_rest ON address_lease_row (subnet, address) {_NOW} AND state != 'held'",
)

_PAST_COUNT = f"""
CREATE TEMP VIEW address_count AS
    SELECT subnet, pool, sum(state = 'held') AS held, sum(state != 'held') AS declined FROM main.address_lease_row
    WHERE from_sequence <= {AS_OF} AND until_sequence > {AS_OF} GROUP BY subnet, pool
"""

SCHEMA = "".join(table.schema for table in TABLES) + COUNT
PAST = (*(table.past for table in TABLES), _PAST_COUNT)
