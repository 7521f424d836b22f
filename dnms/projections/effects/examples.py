"""Examples: what subscribers' words make of the journal."""

from __future__ import annotations

from dnms.events.effect import (
    Call,
    EffectApplied,
    EffectAsked,
    EffectCalled,
    EffectDead,
    EffectDelayed,
    EffectFailed,
    Place,
)
from dnms.projections.example import Example, happened


def _delayed(sequence: int) -> EffectDelayed:
    return EffectDelayed(sequence=sequence, kind="node.arrived", why="timeout", text="no answer")


def _dead(sequence: int) -> EffectDead:
    return EffectDead(sequence=sequence, kind="node.arrived", why="timeout", text="no answer", attempts=80)


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
                ("firewall", "gate", 7, 10, 1_500, 0, 0, 20, "denied", "nft may not"),
                ("firewall", "host", 0, None, 0, 0, 0, 40, "denied", "nft may not"),
            ]
        },
    ),
    Example(
        title="what was applied fails no more",
        log=(
            happened("effect.firewall.gate", 10, EffectFailed(position=8, why="denied", text="nft may not")),
            happened("effect.firewall.gate", 20, EffectApplied(position=9)),
        ),
        rows={"SELECT * FROM effect_instance": [("firewall", "gate", 9, 20, 0, 0, 0, None, "", "")]},
    ),
    Example(
        title="an instance calls, one call is put off and another one is dead, and an operator wants it again",
        log=(
            happened("effect.webhook.gate", 10, EffectCalled(position=3)),
            happened(
                "effect.webhook.gate",
                20,
                _delayed(5),
                EffectCalled(
                    position=4, calls=(Call(sequence=6, waited=7), Call(sequence=7, waited=9)), waiting=1, delayed=1
                ),
            ),
            happened("effect.webhook.gate", 30, _dead(5), EffectCalled(position=9)),
            happened("effect.webhook.gate.asked", 40, EffectAsked(places=(Place(sequence=5),))),
        ),
        rows={
            "SELECT * FROM effect_instance": [("webhook", "gate", 9, 30, 9, 0, 1, None, "", "")],
            "SELECT * FROM effect_dead": [("webhook", "gate", 5, 0, "node.arrived", 30, 80, "timeout", "no answer")],
        },
    ),
    Example(
        title="a dead letter is called for after all",
        log=(
            happened("effect.webhook.gate", 10, _dead(5), _dead(6), EffectCalled(position=9)),
            happened("effect.webhook.gate", 20, EffectCalled(position=9, calls=(Call(sequence=5),))),
        ),
        rows={
            "SELECT * FROM effect_instance": [("webhook", "gate", 9, 20, 0, 0, 1, None, "", "")],
            "SELECT sequence FROM effect_dead": [(6,)],
        },
    ),
    Example(
        title="the call that failed is done",
        log=(
            happened("effect.webhook.gate", 10, _delayed(5), EffectCalled(position=4, waiting=2, delayed=1)),
            happened("effect.webhook.gate", 20, EffectCalled(position=6, calls=(Call(sequence=5, attempts=2),))),
        ),
        rows={"SELECT * FROM effect_instance": [("webhook", "gate", 6, 20, 0, 0, 0, None, "", "")]},
    ),
)
