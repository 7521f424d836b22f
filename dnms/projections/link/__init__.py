"""What is seen on the links: who has which address without having been given it, and what is wrong."""

from dnms.projections.link.fold import INDEXES, KINDS, PAST, SCHEMA, fold
from dnms.projections.projection import Projection

PROJECTION = Projection(name="link", version=1, schema=SCHEMA, indexes=INDEXES, past=PAST, fold=fold, kinds=KINDS)
