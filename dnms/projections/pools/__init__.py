"""What addresses there are to give, and how many are given: site, groups, subnets and pools as the plan has them.

How many addresses of a pool are held is counted where leases are folded, in `addresses`, and joined in the answers.
"""

from dnms.projections.pools.fold import INDEXES, KINDS, PAST, SCHEMA, fold
from dnms.projections.projection import Projection

PROJECTION = Projection(name="pool", version=4, schema=SCHEMA, indexes=INDEXES, past=PAST, fold=fold, kinds=KINDS)
