"""Examples: what subscribers' words make of the journal."""

from __future__ import annotations

from dnms.events.effect import EffectApplied, EffectFailed
from dnms.projections.example import Example, happened

EXAMPLES = (
    Example(
        title="an instance applies, fails for a while, and applies again",
        log=(
            happened("effect.firewall.gate", 10, EffectApplied(position=7, added=("a in b-6",), waited=1_500)),
            happened("effect.firewall.gate", 20, EffectFailed(position=8, why="no-nft", text="nft is missing")),
            happened("effect.firewall.gate", 30, EffectFailed(position=9, why="denied", text="nft may not")),
            happened("effect.firewall.host", 40, EffectFailed(position=9, why="denied", text="nft may not")),
        ),
        rows={
            "SELECT * FROM effect_instance ORDER BY instance": [
                ("firewall", "gate", 7, 10, 1_500, 20, "denied", "nft may not"),
                ("firewall", "host", 0, None, 0, 40, "denied", "nft may not"),
            ]
        },
    ),
    Example(
        title="what was applied fails no more",
        log=(
            happened("effect.firewall.gate", 10, EffectFailed(position=8, why="denied", text="nft may not")),
            happened("effect.firewall.gate", 20, EffectApplied(position=9)),
        ),
        rows={"SELECT * FROM effect_instance": [("firewall", "gate", 9, 20, 0, None, "", "")]},
    ),
)
