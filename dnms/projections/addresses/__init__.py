"""Who has which address now: leases and reservations of the ledgers, and what nodes registered, whoever gave it."""

from dnms.projections.addresses.fold import fold
from dnms.projections.addresses.schema import INDEXES, PAST, SCHEMA
from dnms.projections.projection import Projection

PROJECTION = Projection(name="address", version=6, schema=SCHEMA, indexes=INDEXES, past=PAST, fold=fold)
