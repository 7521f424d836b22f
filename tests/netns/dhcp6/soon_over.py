"""`python -m tests.netns.dhcp6.soon_over`: a Subnet Agent for which what it saw on its link is over in seconds."""

from __future__ import annotations

import sys

from dnms.agents.subnet import __main__, seeing_alarms, seeing_table

RECHECK, MOVED, SCANNED, SERVER = 10.0, 15, 2.0, 8.0
"""Seconds, instead of half a minute, five minutes, one minute and an hour. A router is over when it leaves, as ever."""


def main() -> int:
    """As the agent's own."""
    for module, times in (
        (seeing_alarms, {"RECHECK": RECHECK, "MOVED_STAYS": MOVED}),
        (seeing_table, {"SCAN": SCANNED, "SERVER_STAYS": SERVER}),
    ):
        vars(module).update(times)
    seeing_alarms.STAYS.update({"scan": 5 * SCANNED, "dhcp-server": SERVER})
    return __main__.main(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
