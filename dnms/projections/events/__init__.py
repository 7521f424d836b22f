"""Which events happened: every one by its position, with its commit; by kind and by node, and how many there are."""

from dnms.projections.events.fold import PAST, SCHEMA, fold
from dnms.projections.projection import Projection

PROJECTION = Projection(name="event", version=2, schema=SCHEMA, past=PAST, fold=fold)
