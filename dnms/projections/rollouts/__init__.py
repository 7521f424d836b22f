"""How far a new plan has come in each subnet whose nodes are told it in waves."""

from dnms.projections.projection import Projection
from dnms.projections.rollouts.fold import INDEXES, PAST, SCHEMA, TYPES, fold

PROJECTION = Projection(name="rollout", version=1, schema=SCHEMA, indexes=INDEXES, past=PAST, fold=fold, kinds=TYPES)
