"""The plans of a simulation: lifetimes of seconds, and ranges so small that hashes collide."""

from __future__ import annotations

from dnms.domain.document import from_toml
from dnms.events.requests import ApplyPlan

SITE, SUBNET, SECRET = "s", "lan", b"k" * 32

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

RANGES = {
    "whole": "2001:db8:1:1::/64",
    "small": "2001:db8:1:1::100-2001:db8:1:1::11f",
    "tiny": "2001:db8:1:1::300-2001:db8:1:1::309",
    "other": "2001:db8:1:1::200-2001:db8:1:1::20f",
}
SMALL4, OTHER4 = "192.0.2.16-192.0.2.31", "192.0.2.24-192.0.2.47"


def plan(
    *, six: str, four: str | None, voip: bool, dns: str = "2001:db8::53", valid: int = 30, strict: bool = False
) -> ApplyPlan:
    """Pools of both families; `voip`: some nodes are in a group; `strict`: nothing is given while the log is away."""
    text = _HEAD.format(nodes='["node-1", "node-3"]' if voip else "[]", dns=dns)
    times = {"preferred": valid * 2 // 3, "valid": valid}
    text += "strict = true\n" if strict else ""
    text += _POOL.format(name="six", range=RANGES[six], **times)
    if four is not None:
        text += _POOL.format(name="four", range=four, **times)
    return from_toml(text)


PLANS: dict[str, ApplyPlan] = {
    "small": plan(six="small", four=SMALL4, voip=False),
    "tiny": plan(six="tiny", four=SMALL4, voip=False),
    "strict": plan(six="tiny", four=SMALL4, voip=False, strict=True),
    "brief": plan(six="tiny", four=SMALL4, voip=False, valid=10),
    "whole": plan(six="whole", four=SMALL4, voip=False),
    "groups": plan(six="whole", four=SMALL4, voip=True),
    "other-dns": plan(six="small", four=SMALL4, voip=False, dns="2001:db8::54"),
    "moved": plan(six="other", four=OTHER4, voip=False),
    "without-ipv4": plan(six="small", four=None, voip=False),
    "longer": plan(six="small", four=SMALL4, voip=False, valid=60),
}
