"""What each instance of a subscriber did last, how long that took, and whether it fails."""

from dnms.projections.effects.fold import INDEXES, PAST, SCHEMA, fold
from dnms.projections.projection import Projection

PROJECTION = Projection(name="effect", version=1, schema=SCHEMA, indexes=INDEXES, past=PAST, fold=fold)
