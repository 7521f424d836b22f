"""What each instance of a subscriber did last, how long that took, whether it fails, and its dead letters."""

from dnms.projections.effects.fold import INDEXES, KINDS, PAST, SCHEMA, fold
from dnms.projections.projection import Projection

PROJECTION = Projection(name="effect", version=2, schema=SCHEMA, indexes=INDEXES, past=PAST, fold=fold, kinds=KINDS)
