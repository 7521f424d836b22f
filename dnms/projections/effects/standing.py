"""Whether the newest that was decided of something has arrived: on the node, in routes, in the firewall.

The newest event is looked up, and what each who has to do with it said last: a node that it applied an assignment of
that generation, an instance of a subscriber that its world is as the log says up to a position.
"""

from __future__ import annotations

from collections.abc import Sequence

import aiosqlite
import msgspec

from dnms.events.codec import decode_event
from dnms.events.ip import Prefix, parse_address, parse_prefix
from dnms.events.plan import SubnetDefined
from dnms.projections.events.fold import INDEX_BITS
from dnms.projections.nodes.queries import outcomes
from dnms.projections.projection import place

CONFIGURED = "configured"
ROUTES = "routes"
"""What is waited for that is asked of others than every instance of a subscriber."""

_TOLD = frozenset(
    {
        "address.allocated",
        "outage.granted",
        "address.deprecated",
        "address.withdrawn",
        "prefix.delegated",
        "prefix.deprecated",
        "prefix.withdrawn",
    }
)
"""Events by which a node is told something else. A renewal tells it what it has."""

_ENDED = frozenset({"address.released", "address.expired", "address.declined", "prefix.released", "prefix.expired"})
_ROUTED = frozenset(name for name in _TOLD | _ENDED if name.startswith("prefix.")) | {"prefix.renewed"}
_ACTED = _TOLD | _ENDED
"""Events by which others than routers have something to do. Most renewals of a prefix say that it lasts."""

_OF_NODE = frozenset({"node.identified", "node.entered", "node.joined", "node.parted", "node.forgotten"})
"""Events by which a node comes into another group. That it arrived somewhere changes nothing anywhere else."""

_GONE_WRONG = frozenset({"duplicate", "refused", "rolled-back"})


class Nothing(Exception):
    """There is nothing to wait for; one line that says why, and what to give."""


class Entity(msgspec.Struct, frozen=True):
    """One of the three: a node by its client ids, an address, a prefix."""

    text: str  # as it was asked for
    clients: tuple[bytes, ...] = ()
    address: bytes = b""
    prefix: Prefix | None = None


def addressed(text: str) -> Entity | None:
    """The address or the prefix in a text; None if it is neither, and so may be a node's name."""
    try:
        if "/" in text:
            return Entity(text, prefix=parse_prefix(text))
        return Entity(text, address=parse_address(text))
    except ValueError:
        return None


class StandingRow(msgspec.Struct, frozen=True, kw_only=True):
    """One who has to say that it applied the newest event, and whether it did."""

    what: str  # configured, or the name of a subscriber
    who: str  # the client id in hex with its subnet, or the instance; empty: nobody has ever said anything
    position: int  # sequence of the newest event
    has: int  # up to which it said that it applied
    done: bool
    why: str  # what went wrong, where something did


class _Newest(msgspec.Struct, frozen=True):
    """The newest event of some names on one subject, for one client."""

    subject: str
    client: bytes
    sequence: int


async def standing(
    db: aiosqlite.Connection, entity: Entity, whats: Sequence[str], instances: Sequence[str]
) -> list[StandingRow]:
    """Of each that is asked for: everybody who has to apply it. `instances`: these only, where there are some. Nothing.

    For routes they are those that the plan names as the subnet's routers, and for others all that ever said anything.
    """
    found: list[StandingRow] = []
    for what in whats:
        names = _TOLD if what == CONFIGURED else _ROUTED if what == ROUTES else _ACTED | _OF_NODE
        newest = await _newest(db, entity, names)
        if not newest:
            raise Nothing(f"{entity.text} has had nothing that {what} could apply")
        if what == CONFIGURED:
            found += [await _configured(db, entity, each) for each in newest]
        elif what == ROUTES and not instances:
            for each in newest:
                subnet = place(each.subject).subnet
                routers = await _routers(db, subnet)
                if not routers:
                    raise Nothing(f"the plan names no routers for the subnet {subnet}; name them with --instance")
                found += [await _applied(db, what, router, each.sequence) for router in routers]
        else:
            sequence = max(each.sequence for each in newest)
            chosen = instances or await _instances(db, what)
            found += [await _applied(db, what, instance, sequence) for instance in chosen or [""]]
    return found


async def _newest(db: aiosqlite.Connection, entity: Entity, names: frozenset[str]) -> list[_Newest]:
    if entity.prefix is not None:
        term = "e.position IN (SELECT position FROM event_text WHERE word = (SELECT id FROM event_word WHERE text = ?))"
        values: tuple[bytes | str, ...] = (str(entity.prefix),)
        names = frozenset(name for name in names if name.startswith("prefix."))
    elif entity.address:
        term, values = "e.address = ?", (entity.address,)
    else:
        term, values = f"e.client IN ({', '.join('?' * len(entity.clients))})", entity.clients
    rows = await db.execute_fetchall(
        f"""
        SELECT c.subject, coalesce(e.client, x''), max(e.position) >> {INDEX_BITS}
        FROM event e JOIN event_commit c ON c.sequence = e.position >> {INDEX_BITS}
        WHERE {term} AND e.name IN ({", ".join("?" * len(names))})
        GROUP BY c.subject, e.client
        """,
        (*values, *sorted(names)),
    )
    # Of an address or a prefix that went from one client to another, the last one is asked.
    last = {each.subject: each for each in sorted((_Newest(*row) for row in rows), key=lambda each: each.sequence)}
    return [last[subject] for subject in sorted(last)]


async def _configured(db: aiosqlite.Connection, entity: Entity, newest: _Newest) -> StandingRow:
    subnet = place(newest.subject).subnet
    rows = list(
        await db.execute_fetchall(
            "SELECT a.ledger, e.item, a.unproven, a.why FROM node_application a"
            f" JOIN event e ON e.position = a.sequence << {INDEX_BITS} | a.event_index"
            " WHERE a.client = ? AND a.subnet = ?",
            (newest.client, subnet),
        )
    )
    has, item, unproven, why = rows[0] if rows else (0, None, 0, "")
    reached = has >= newest.sequence
    of_each = {} if item is None else outcomes(item)
    wrong = [f"{address} {outcome}" for address, outcome in of_each.items() if outcome in _GONE_WRONG]
    if reached and not why and wrong:
        why = ", ".join(wrong)
    if reached and not why and unproven:
        why = "it is still to prove itself"
    return StandingRow(
        what=CONFIGURED,
        who=f"{newest.client.hex()} on {subnet}",
        position=newest.sequence,
        has=has,
        done=reached and not why,
        why=why if reached else "",
    )


async def _applied(db: aiosqlite.Connection, what: str, instance: str, sequence: int) -> StandingRow:
    rows = list(
        await db.execute_fetchall(
            "SELECT position, why, text FROM effect_instance WHERE subscriber = ? AND instance = ?", (what, instance)
        )
    )
    has, why, text = rows[0] if rows else (0, "", "")
    return StandingRow(
        what=what,
        who=instance,
        position=sequence,
        has=has,
        done=has >= sequence,
        why=f"{why}, {text}" if why else "" if rows else "it has never said anything",
    )


async def _instances(db: aiosqlite.Connection, subscriber: str) -> list[str]:
    rows = await db.execute_fetchall(
        "SELECT instance FROM effect_instance WHERE subscriber = ? ORDER BY instance", (subscriber,)
    )
    return [row[0] for row in rows]


async def _routers(db: aiosqlite.Connection, subnet: str) -> tuple[str, ...]:
    """The instances that the newest plan names for a subnet."""
    rows = list(
        await db.execute_fetchall(
            "SELECT e.item FROM event_part p JOIN event e ON e.position = p.position"
            " WHERE p.part = ? AND e.name = ? ORDER BY p.position DESC LIMIT 1",
            (f"subnet/{subnet}", SubnetDefined.NAME),
        )
    )
    event = decode_event(rows[0][0]) if rows else None
    return event.subnet.downlink.routers if isinstance(event, SubnetDefined) else ()
