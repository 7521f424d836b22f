"""The tables of the addresses."""

SCHEMA = """
CREATE TABLE address_lease (       -- an address is unique in its realm, so in its subnet, and not in the site
    address BLOB NOT NULL,
    subnet TEXT NOT NULL,
    state TEXT NOT NULL,           -- held, declined, blocked
    client BLOB NOT NULL,          -- who holds it, who declined it, or who uses it
    iaid INTEGER NOT NULL,
    pool TEXT NOT NULL,
    member_of INTEGER NOT NULL,    -- number of the group, 0 for none
    counter INTEGER NOT NULL,
    since INTEGER NOT NULL,
    valid_until INTEGER NOT NULL,  -- as far as the log knows; of a declined one: end of its quarantine
    horizon INTEGER NOT NULL,
    opened_sequence INTEGER NOT NULL,
    opened_index INTEGER NOT NULL,
    changed_sequence INTEGER NOT NULL,
    changed_index INTEGER NOT NULL,
    PRIMARY KEY (address, subnet)
) WITHOUT ROWID;
CREATE INDEX address_lease_client ON address_lease (client);
CREATE INDEX address_lease_pool ON address_lease (subnet, pool);
CREATE INDEX address_lease_resting ON address_lease (subnet, address) WHERE state != 'held';
CREATE TABLE address_hold (        -- reserved for a client, whether it has it or not
    address BLOB NOT NULL,
    subnet TEXT NOT NULL,
    client BLOB NOT NULL,
    iaid INTEGER NOT NULL,
    since INTEGER NOT NULL,
    sequence INTEGER NOT NULL,
    event_index INTEGER NOT NULL,
    PRIMARY KEY (address, subnet)
) WITHOUT ROWID;
CREATE INDEX address_hold_client ON address_hold (client);
CREATE TABLE address_count (       -- a count of rows would cost milliseconds
    subnet TEXT NOT NULL,
    pool TEXT NOT NULL,
    held INTEGER NOT NULL,
    declined INTEGER NOT NULL,
    PRIMARY KEY (subnet, pool)
) WITHOUT ROWID;
CREATE TABLE address_seen (        -- the last registration of each node
    client BLOB NOT NULL,
    interface INTEGER NOT NULL,
    address BLOB NOT NULL,
    subnet TEXT NOT NULL,          -- where it was registered
    link TEXT NOT NULL,            -- name of the interface
    prefix_length INTEGER NOT NULL,
    origin TEXT NOT NULL,
    flags INTEGER NOT NULL,
    preferred_until INTEGER,       -- NULL: for ever
    valid_until INTEGER,
    since INTEGER NOT NULL,        -- registered without a break
    changed_sequence INTEGER NOT NULL,
    changed_index INTEGER NOT NULL,
    PRIMARY KEY (client, interface, address)
) WITHOUT ROWID;
CREATE INDEX address_seen_address ON address_seen (address);
"""
