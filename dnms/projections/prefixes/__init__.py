"""Prefixes: which are delegated to whom, which came from above, and which are the links' own.

A delegation stays in its table when it ends, until its prefix is delegated again: by then the history has it.
"""

from dnms.projections.prefixes.fold import KINDS, fold
from dnms.projections.prefixes.schema import INDEXES, PAST, SCHEMA
from dnms.projections.projection import Projection

PROJECTION = Projection(name="prefix", version=1, schema=SCHEMA, indexes=INDEXES, past=PAST, fold=fold, kinds=KINDS)
"""What the ledgers say of prefixes."""
