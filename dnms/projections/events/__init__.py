"""Which events happened: every one by its position, with its commit.

They are found by kind, node, address, part of the plan, subnet, writer, cause, time and any text in them: `audit`.
"""

from dnms.projections.events.fold import INDEXES, PAST, SCHEMA, fold
from dnms.projections.projection import Projection

PROJECTION = Projection(name="event", version=5, schema=SCHEMA, past=PAST, fold=fold, indexes=INDEXES)
