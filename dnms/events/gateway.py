"""Family `gateway`: which routers of a link can be used. Subject `ledger.<subnet>`."""

from __future__ import annotations

from dnms.events.ip import Address
from dnms.events.recorded import Event


class GatewayAppeared(Event, frozen=True, kw_only=True, omit_defaults=True):
    """A router can be used: it advertises itself, or answers again."""

    NAME = "gateway.appeared"
    address: Address
    learned: bool = False  # from its advertisement, and not from the plan
    preference: int = 0  # -1 low, 0 medium, 1 high (RFC 4191, 2.1)


class GatewayVanished(Event, frozen=True, kw_only=True, omit_defaults=True):
    """A router cannot be used any more."""

    NAME = "gateway.vanished"
    address: Address
    why: str  # silent: it does not answer; farewell: it said so; expired: its advertisement is over


EVENTS = (GatewayAppeared, GatewayVanished)
