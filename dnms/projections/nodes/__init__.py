"""Who is there, and how it is: each node's identity, subnet, session, last registration, and what it last applied."""

from dnms.projections.nodes.fold import fold
from dnms.projections.nodes.schema import INDEXES, PAST, SCHEMA
from dnms.projections.projection import Projection

PROJECTION = Projection(name="node", version=10, schema=SCHEMA, indexes=INDEXES, past=PAST, fold=fold)
