"""How much happened: events by hour, subnet and kind, for plots."""

from dnms.projections.activity.fold import SCHEMA, fold
from dnms.projections.projection import Projection

PROJECTION = Projection(name="activity", version=1, schema=SCHEMA, fold=fold)
