"""Who has which address now: leases as the ledgers hold them, and what nodes registered, whoever gave it to them."""

from dnms.projections.addresses.fold import fold
from dnms.projections.addresses.schema import SCHEMA
from dnms.projections.projection import Projection

PROJECTION = Projection(name="address", version=3, schema=SCHEMA, fold=fold)
