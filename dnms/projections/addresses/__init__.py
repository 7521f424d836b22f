"""Who has which address now: leases and reservations of the ledgers, and what nodes registered, whoever gave it."""

from dnms.projections.addresses.fold import fold
from dnms.projections.addresses.schema import SCHEMA
from dnms.projections.projection import Projection

PROJECTION = Projection(name="address", version=3, schema=SCHEMA, fold=fold)
