"""The whole configuration of each node as it is now, for the folds alone: what the log has is a whole now and then, and
what changed after it. What was so at another time is told from the events (`nodes.queries.snapshot`).

Every fold that looks at configurations reads this table, so its own comes last in PROJECTIONS.
"""

from dnms.projections.configurations.fold import SCHEMA, fold
from dnms.projections.projection import Projection

PROJECTION = Projection(name="configuration", version=2, schema=SCHEMA, fold=fold)
