"""What is cut from what: each prefix from above with what a router made of it, over as many levels as the log has.

A router's prefix from above is below the delegation that it came of: of the commit that it names, or, where a renewal
has moved that on, the one in another subnet's ledger that it lies in. What another log has delegated is at the top.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from datetime import datetime

import aiosqlite
import msgspec

from dnms.events.ip import Prefix, parse_prefix, prefix_of
from dnms.projections.prefixes import queries
from dnms.projections.prefixes.queries import DelegationRow, LinkRow, UplinkRow

UPLINK, DELEGATION, LINK = "uplink", "delegation", "link"

MAX_DEPTH = 64  # a prefix is longer than the one that it is cut from; more is a log that says nonsense

_Row = UplinkRow | DelegationRow | LinkRow


class TreeRow(msgspec.Struct, frozen=True, kw_only=True):
    """A prefix where it is in the tree. Those that are cut from it follow it, one deeper."""

    depth: int
    prefix: str
    kind: str  # uplink, delegation, link
    subnet: str  # whose router has it from above, whose ledger delegated it, or whose own it is
    state: str  # received, deprecated, delegated, own
    of: str  # the uplink, or the delegation of the plan; of a link's own empty
    source: str  # who delegated it; of a link's own empty
    client: str | None  # hex; to whom it is delegated
    node: str | None  # the client's name
    valid_until: datetime | None  # of a link's own None: as long as what it is cut from
    position: str  # of the event that gave it


async def tree(db: aiosqlite.Connection, log_id: str, *, within: Prefix | None = None) -> list[TreeRow]:
    """All that has a prefix from above, or a delegation, at its top; `within`: as far as it overlaps a prefix."""
    delegations: list[DelegationRow] = []
    while page := await queries.delegations(
        db, after=queries.key_of(delegations[-1]) if delegations else None, limit=queries.MAX_PREFIXES
    ):
        delegations += page
    grown = _Tree(log_id, await queries.uplinks(db), delegations, await queries.links(db))
    rows = list(grown.rows())
    return rows if within is None else [row for row in rows if parse_prefix(row.prefix).overlaps(within)]


def parent_of(uplink: UplinkRow, log_id: str, delegations: list[DelegationRow]) -> DelegationRow | None:
    """The delegation that a prefix from above came of, of these; None: it is not among them."""
    if uplink.source_log is not None and uplink.source_log != log_id:
        return None
    prefix = parse_prefix(uplink.prefix)
    found = [each for each in delegations if each.subnet != uplink.subnet and parse_prefix(each.prefix).covers(prefix)]
    named = [each for each in found if uplink.source_position in (_commit(each.opened), _commit(each.changed))]
    return max(named or found, key=lambda each: parse_prefix(each.prefix).length, default=None)


class _Tree:
    def __init__(
        self, log_id: str, uplinks: list[UplinkRow], delegations: list[DelegationRow], links: list[LinkRow]
    ) -> None:
        self._below: defaultdict[int, list[_Row]] = defaultdict(list)  # by the identity of the row
        self._tops: list[_Row] = []
        above: defaultdict[str, dict[Prefix, UplinkRow]] = defaultdict(dict)
        for uplink in uplinks:
            above[uplink.subnet][parse_prefix(uplink.prefix)] = uplink
        standing: defaultdict[Prefix, list[DelegationRow]] = defaultdict(list)
        for delegation in delegations:
            standing[parse_prefix(delegation.prefix)].append(delegation)
        for uplink in uplinks:
            around = _around(parse_prefix(uplink.prefix))
            candidates = [each for prefix in around if prefix in standing for each in standing[prefix]]
            self._put(uplink, parent_of(uplink, log_id, candidates))
        rows: list[LinkRow | DelegationRow] = [*links, *delegations]
        for row in rows:
            of_subnet = above[row.subnet]
            cut_from = next((of_subnet[each] for each in _around(parse_prefix(row.prefix)) if each in of_subnet), None)
            if cut_from is not None or isinstance(row, DelegationRow):  # a link's own of the plan alone is in no tree
                self._put(row, cut_from)

    def rows(self) -> Iterator[TreeRow]:
        """From the top down."""
        for top in sorted(self._tops, key=_order):
            yield from self._rows(top, 0)

    def _put(self, row: _Row, parent: _Row | None) -> None:
        (self._tops if parent is None else self._below[id(parent)]).append(row)

    def _rows(self, row: _Row, depth: int) -> Iterator[TreeRow]:
        yield _row(row, depth)
        if depth < MAX_DEPTH:
            for below in sorted(self._below[id(row)], key=_order):
                yield from self._rows(below, depth + 1)


def _around(prefix: Prefix) -> Iterator[Prefix]:
    """Itself and all that have it in them, the longest first."""
    return (prefix_of(prefix.network, length) for length in range(prefix.length, -1, -1))


def _order(row: _Row) -> tuple[Prefix, str]:
    return parse_prefix(row.prefix), row.subnet


def _commit(position: str) -> int:
    return int(position.partition(".")[0])


def _row(row: _Row, depth: int) -> TreeRow:
    if isinstance(row, LinkRow):
        kind, state, of, source, position = LINK, "own", "", "", row.position
    elif isinstance(row, UplinkRow):
        kind, state, of, source, position = UPLINK, row.state, row.uplink, row.source, row.opened
    else:
        kind, state, of, source, position = DELEGATION, row.state, row.pool, row.subnet, row.opened
    delegation = row if isinstance(row, DelegationRow) else None
    return TreeRow(
        depth=depth,
        prefix=row.prefix,
        kind=kind,
        subnet=row.subnet,
        state=state,
        of=of,
        source=source,
        client=None if delegation is None else delegation.client,
        node=None if delegation is None else delegation.node,
        valid_until=None if isinstance(row, LinkRow) else row.valid_until,
        position=position,
    )
