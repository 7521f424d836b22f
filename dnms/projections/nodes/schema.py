"""The tables of the nodes."""

SCHEMA = """
CREATE TABLE node (
    client BLOB PRIMARY KEY,
    name TEXT,                    -- NULL until the node has said who it is
    duid TEXT,
    hardware TEXT NOT NULL DEFAULT '[]',
    kernel TEXT NOT NULL DEFAULT '',
    subnet TEXT NOT NULL DEFAULT '',
    arrived INTEGER,
    identified_sequence INTEGER,
    entered INTEGER,              -- by an operator; NULL: it came by itself
    entered_group TEXT NOT NULL DEFAULT '',
    ready INTEGER NOT NULL DEFAULT 0,
    first_seen INTEGER NOT NULL,
    last_seen INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX node_name ON node (name);
CREATE TABLE node_join (          -- identities of one machine
    client BLOB PRIMARY KEY,
    into_client BLOB NOT NULL     -- the one by which the machine is known
) WITHOUT ROWID;
CREATE INDEX node_join_into ON node_join (into_client);
CREATE TABLE node_session (       -- the last one with each agent
    client BLOB NOT NULL,
    subnet TEXT NOT NULL,
    agent TEXT NOT NULL,
    open INTEGER NOT NULL,
    peer BLOB NOT NULL,
    since INTEGER NOT NULL,       -- it is open or closed
    why TEXT NOT NULL,            -- it was closed
    sequence INTEGER NOT NULL,
    event_index INTEGER NOT NULL,
    PRIMARY KEY (client, subnet, agent)
) WITHOUT ROWID;
CREATE TABLE node_registration (
    client BLOB PRIMARY KEY,
    time INTEGER NOT NULL,
    subnet TEXT NOT NULL,
    agent TEXT NOT NULL,
    digest BLOB NOT NULL,
    snapshot TEXT NOT NULL,
    sequence INTEGER NOT NULL,
    event_index INTEGER NOT NULL
);
CREATE TABLE node_application (
    client BLOB NOT NULL,
    subnet TEXT NOT NULL,
    time INTEGER NOT NULL,
    epoch INTEGER NOT NULL,
    plan INTEGER NOT NULL,
    ledger INTEGER NOT NULL,
    items TEXT NOT NULL,
    sequence INTEGER NOT NULL,
    event_index INTEGER NOT NULL,
    PRIMARY KEY (client, subnet)
) WITHOUT ROWID;
"""
