"""Who had which address when: who held it by a lease, who was delegated the prefix that it lies in, who used it by what
nodes registered, who was seen with it.

A row says what is so from an instant on, and has no end: the next row of the same address is it. So nothing is ever
changed, and who had an address at an instant is one seek in the key.
"""

from dnms.projections.history.delegated import INDEXES
from dnms.projections.history.fold import APPENDED, PAST, SCHEMA, fold
from dnms.projections.projection import Projection

PROJECTION = Projection(
    name="history", version=7, schema=SCHEMA, indexes=INDEXES, past=PAST, fold=fold, appended=APPENDED
)
