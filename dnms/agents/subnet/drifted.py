"""What a node told of what somebody else changed on it, as it is recorded."""

from __future__ import annotations

from dnms.events.seen import ConfigurationContested, ConfigurationDrifted
from dnms.wire.messages import Drifted

CONTESTED = "contested"


def recorded(client: bytes, told: Drifted) -> ConfigurationDrifted | ConfigurationContested:
    """The event for what a node told."""
    if told.action == CONTESTED:
        return ConfigurationContested(
            client=client,
            generation=told.generation,
            items=told.items,
            rival=told.rival,
            restored=told.restored,
            within=told.within,
            hold=told.hold,
        )
    return ConfigurationDrifted(
        client=client,
        generation=told.generation,
        items=told.items,
        action=told.action,
        rival=told.rival,
        more=told.more,
    )
