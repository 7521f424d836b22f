"""Views of the log: each a schema, a pure fold and its queries, in one disposable SQLite file with one writer.

`runner` follows the log and folds it, `views` opens the file for readers, `verify` folds the log again and compares,
`naive` does so by other means. To add a view, add its folder and its line in PROJECTIONS.
"""

from __future__ import annotations

from dnms.projections import (
    activity,
    addresses,
    configurations,
    effects,
    events,
    history,
    link,
    nodes,
    pools,
    prefixes,
    rollouts,
)

PROJECTIONS = (
    events.PROJECTION,
    nodes.PROJECTION,
    addresses.PROJECTION,
    pools.PROJECTION,
    prefixes.PROJECTION,
    history.PROJECTION,
    activity.PROJECTION,
    configurations.PROJECTION,
    rollouts.PROJECTION,
    effects.PROJECTION,
    link.PROJECTION,
)
"""Every view."""
