"""The tables of the nodes."""

from dnms.events.node import NodeArrived, NodeEntered, NodeForgotten, NodeIdentified, NodeJoined, NodeParted, NodeReady
from dnms.events.seen import (
    ConfigurationApplied,
    ConfigurationChanged,
    ConfigurationContested,
    ConfigurationDrifted,
    ConfigurationRegistered,
    SessionClosed,
    SessionOpened,
)
from dnms.projections.versions import AS_OF, Table

NODE = Table(
    name="node",
    key={"client": "BLOB NOT NULL"},
    columns={
        "name": "TEXT",  # NULL until the node has said who it is
        "duid": "TEXT",
        "hardware": "TEXT NOT NULL",
        "kernel": "TEXT NOT NULL",
        "subnet": "TEXT NOT NULL",
        "arrived": "INTEGER",
        "identified_sequence": "INTEGER",
        "entered": "INTEGER",  # by an operator; NULL: it came by itself
        "entered_group": "TEXT NOT NULL",
        "ready": "INTEGER NOT NULL",
        "first_seen": "INTEGER NOT NULL",
    },
    indexes=("name",),
)
JOIN = Table(  # identities of one machine
    name="node_join",
    key={"client": "BLOB NOT NULL"},
    columns={"into_client": "BLOB NOT NULL"},  # the one by which the machine is known
    indexes=("into_client",),
)
SESSION = Table(  # the last one with each agent
    name="node_session",
    key={"client": "BLOB NOT NULL", "subnet": "TEXT NOT NULL", "agent": "TEXT NOT NULL"},
    columns={
        "open": "INTEGER NOT NULL",
        "peer": "BLOB NOT NULL",
        "since": "INTEGER NOT NULL",  # it is open or closed
        "why": "TEXT NOT NULL",  # it was closed
        "sequence": "INTEGER NOT NULL",
        "event_index": "INTEGER NOT NULL",
    },
)
APPLICATION = Table(  # the last one on each subnet
    name="node_application",
    key={"client": "BLOB NOT NULL", "subnet": "TEXT NOT NULL"},
    columns={
        "time": "INTEGER NOT NULL",
        "epoch": "INTEGER NOT NULL",
        "plan": "INTEGER NOT NULL",
        "ledger": "INTEGER NOT NULL",
        "unproven": "INTEGER NOT NULL",  # the node may still go back
        "why": "TEXT NOT NULL",  # it went back, or was not taken over
        "sequence": "INTEGER NOT NULL",  # of the event, which has what became of each address
        "event_index": "INTEGER NOT NULL",
    },
)
DRIFT = Table(  # the last time that somebody else changed what DNMS had configured
    name="node_drift",
    key={"client": "BLOB NOT NULL", "subnet": "TEXT NOT NULL"},
    columns={
        "time": "INTEGER NOT NULL",
        "action": "TEXT NOT NULL",  # left, reported, restored, contested
        "rival": "TEXT NOT NULL",
        "items": "TEXT NOT NULL",
        "more": "INTEGER NOT NULL",
        "sequence": "INTEGER NOT NULL",
        "event_index": "INTEGER NOT NULL",
    },
)
OF_NODE = (NodeIdentified, NodeEntered, NodeReady, NodeJoined, NodeParted, NodeArrived)
"""Events that say who a node is."""

SEEN = (
    SessionOpened,
    SessionClosed,
    ConfigurationRegistered,
    ConfigurationChanged,
    ConfigurationApplied,
    ConfigurationDrifted,
    ConfigurationContested,
)
"""Events that say that it was there."""

LAST = """
CREATE TABLE node_last (          -- the newest events of a node: what they say is in `event`, so no version is kept
    client BLOB PRIMARY KEY,
    time INTEGER NOT NULL,        -- of the newest that says something of it
    registered INTEGER            -- position of its newest registration
) WITHOUT ROWID;
"""
_KINDS = ", ".join(f"'{event.NAME}'" for event in (*OF_NODE, *SEEN))
_OF_IT = f"e.client = n.client AND e.position < {AS_OF} + 1 << 13"
_PAST_LAST = f"""
CREATE TEMP VIEW node_last AS
    SELECT n.client AS client, (
        SELECT c.time FROM main.event e JOIN main.event_commit c ON c.sequence = e.position >> 13
        WHERE {_OF_IT} AND +e.name IN ({_KINDS})
        ORDER BY e.position DESC LIMIT 1
    ) AS time, (
        SELECT CASE e.name WHEN '{ConfigurationRegistered.NAME}' THEN e.position END FROM main.event e
        WHERE {_OF_IT} AND +e.name IN ('{ConfigurationRegistered.NAME}', '{NodeForgotten.NAME}')
        ORDER BY e.position DESC LIMIT 1
    ) AS registered
    FROM node n
"""

TABLES = (NODE, JOIN, SESSION, APPLICATION, DRIFT)
SCHEMA = "".join(table.schema for table in TABLES) + LAST
INDEXES = tuple(statement for table in TABLES for statement in table.asked_by)
PAST = (*(table.past for table in TABLES), _PAST_LAST)
