"""What this process is allowed to do to the network."""

from __future__ import annotations

from pathlib import Path

CAP_NET_ADMIN = 12  # capabilities(7)


def may_configure() -> bool:
    """Whether it may change interfaces, in the user namespace that it is in."""
    for line in Path("/proc/self/status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == "CapEff":
            return bool(int(value, 16) >> CAP_NET_ADMIN & 1)
    return False
