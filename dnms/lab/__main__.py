"""`python -m dnms.lab` is `dnms lab`."""

import sys

from dnms.lab import main

sys.exit(main(sys.argv[1:]))
