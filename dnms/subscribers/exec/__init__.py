"""Runs a program for each event of chosen kinds: at a grant, and at its end.

    [exec]
    command = ["/usr/local/sbin/on-prefix", "--verbose"]
    kinds = ["prefix.delegated", "prefix.released", "prefix.expired", "prefix.withdrawn"]
    timeout = 30

The event is on its standard input, as JSON, and in its environment (`environment`). Exit code 0 says that it is done;
with any other it is run again. `program` runs it.
"""

from __future__ import annotations

from dnms.subscribers.caller import Calling
from dnms.subscribers.exec.program import Program

SUBSCRIBER = Calling(
    name="exec",
    about="a program of yours at each event of chosen kinds",
    caller=Program.of,
    takes=frozenset({"config"}),
)
