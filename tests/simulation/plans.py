"""The plans of a simulation: lifetimes of seconds, and ranges so small that hashes collide."""

from __future__ import annotations

from functools import cache
from typing import Any

from dnms.domain.document import from_toml
from dnms.events.requests import ApplyPlan

SITE, SUBNET, SECRET = "s", "lan", b"k" * 32
BORDER = "border"
"""The instance of `routes` that a delegate waits for, where a plan names it."""

_HEAD = """
[site]
name = "s"
[[group]]
name = "voip"
number = 0x5a1e
nodes = {nodes}
[[subnet]]
name = "lan"
prefixes = ["2001:db8:1:1::/64", "192.0.2.0/24"]
gateways = ["fe80::1", "192.0.2.1"]
dns = ["{dns}"]
"""
_POOL = """
[[pool]]
name = "{name}"
subnet = "lan"
range = "{range}"
preferred = {preferred}
valid = {valid}
quarantine = 30
"""

_DELEGATION = """
[[delegation]]
name = "blocks"
subnet = "lan"
length = 60
shortest = 59
{source}
preferred = {preferred}
valid = {valid}
drain = 20
"""
_UPLINK = """
[[uplink]]
name = "wan"
"""
STATIC, CUT, ROUTED = "static", "cut", "routed"
"""How a plan delegates: a part of its own prefix, or of what comes from above; and whether a route is waited for."""

RANGES = {
    "whole": "2001:db8:1:1::/64",
    "small": "2001:db8:1:1::100-2001:db8:1:1::11f",
    "tiny": "2001:db8:1:1::300-2001:db8:1:1::309",
    "other": "2001:db8:1:1::200-2001:db8:1:1::20f",
}
SMALL4, OTHER4 = "192.0.2.16-192.0.2.31", "192.0.2.24-192.0.2.47"


def plan(
    *,
    six: str,
    four: str | None,
    voip: bool,
    dns: str = "2001:db8::53",
    valid: int = 30,
    strict: bool = False,
    delegates: str = "",
) -> ApplyPlan:
    """Pools of both families; `voip`: some nodes are in a group; `strict`: nothing is given while the log is away;
    `delegates`: STATIC or CUT, and ROUTED, or nothing.
    """
    text = _HEAD.format(nodes='["node-1", "node-3"]' if voip else "[]", dns=dns)
    times = {"preferred": valid * 2 // 3, "valid": valid}
    text += "strict = true\n" if strict else ""
    text += f'routers = ["{BORDER}"]\n' if ROUTED in delegates else ""
    text += 'uplink = "wan"\n' + _UPLINK if CUT in delegates else ""
    text += _POOL.format(name="six", range=RANGES[six], **times)
    if four is not None:
        text += _POOL.format(name="four", range=four, **times)
    if delegates:
        text += _DELEGATION.format(source="" if CUT in delegates else 'prefix = "2001:db8:1::/56"', **times)
    return from_toml(text)


@cache
def plans(delegates: str = "") -> dict[str, ApplyPlan]:
    """All of them."""
    return {name: plan(**each, delegates=delegates) for name, each in PLANS.items()}


PLANS: dict[str, Any] = {
    "small": {"six": "small", "four": SMALL4, "voip": False},
    "tiny": {"six": "tiny", "four": SMALL4, "voip": False},
    "strict": {"six": "tiny", "four": SMALL4, "voip": False, "strict": True},
    "brief": {"six": "tiny", "four": SMALL4, "voip": False, "valid": 10},
    "whole": {"six": "whole", "four": SMALL4, "voip": False},
    "groups": {"six": "whole", "four": SMALL4, "voip": True},
    "other-dns": {"six": "small", "four": SMALL4, "voip": False, "dns": "2001:db8::54"},
    "moved": {"six": "other", "four": OTHER4, "voip": False},
    "without-ipv4": {"six": "small", "four": None, "voip": False},
    "longer": {"six": "small", "four": SMALL4, "voip": False, "valid": 60},
}
