"""What docs/protocol.md shows of the tables that a node's sessions run."""

from __future__ import annotations

import math

from dnms.wire.exchanges import IF_CONFIGURED, NEXT, STRIPS, Exchange, On
from dnms.wire.timers import RUNNING, TIMERS, Timer

_ENDS = tuple(
    on for on in On if all((exchange, on) in NEXT for exchange in Exchange if exchange is not Exchange.DISCOVERING)
)
"""What ends every session: one arrow for all."""


def diagram() -> str:
    """A Mermaid state diagram of two regions, side by side: the exchange that goes on, and *configured*.

    A pair of exchanges has one line. `[configured]`: only then; what is behind `after` is a timer, with its bounds.
    """
    labels: dict[tuple[Exchange, Exchange], list[str]] = {}
    for (exchange, on), then in NEXT.items():
        if on not in _ENDS:
            labels.setdefault((exchange, then), []).append(label(on))
    arrows = {pair: f"{pair[0]} --> {pair[1]}: {' / '.join(on)}" for pair, on in labels.items()}
    discovering = Exchange.DISCOVERING
    inside = [arrow for pair, arrow in arrows.items() if discovering not in pair]
    outside = [arrow for pair, arrow in arrows.items() if discovering in pair]
    lines = ["stateDiagram-v2", "    state node {", f"        [*] --> {discovering}", "        state session {"]
    lines += [f"            {arrow}" for arrow in inside]
    lines += ["        }", *(f"        {arrow}" for arrow in outside)]
    lines += [f"        session --> {discovering}: {' / '.join(map(label, _ENDS))}", "        --"]
    lines += [f"        {line}" for line in _configured()]
    lines += ["    }"]
    return "\n".join(lines) + "\n"


def _configured() -> list[str]:
    """The region beside: applied again after a reboot counts as applied."""
    ends = [*STRIPS, f"{On.DECLINED}, of the last address", f"{On.APPLIED}, none is usable"]
    return [
        'state "not configured" as unconfigured',
        "[*] --> unconfigured",
        f"unconfigured --> configured: {On.APPLIED}, an address is usable",
        f"configured --> unconfigured: {' / '.join(ends)}",
    ]


def label(on: On) -> str:
    """How an arrow is named."""
    waits = bounds(TIMERS[on]) if on in TIMERS else ""
    return f"{on}{f' after {waits}' if waits else ''}{' [configured]' if on in IF_CONFIGURED else ''}"


def bounds(timer: Timer) -> str:
    """How long it runs; empty where nothing bounds it."""
    if (timer.least, timer.most) == (0.0, math.inf):
        return ""
    if timer.least == timer.most:
        return f"{timer.least:g} s"
    return f"{timer.least:g} s or more" if math.isinf(timer.most) else f"{timer.least:g} to {timer.most:g} s"


def timers() -> str:
    """A table of the timers: where each runs, for how long, and where its end leads to."""
    rows = ["| timer | runs while | seconds | how long |", "|---|---|---|---|"]
    for on, timer in TIMERS.items():
        where = [exchange for exchange in Exchange if on in RUNNING[exchange, True]]
        others = [exchange for exchange in Exchange if exchange not in where]
        named = ", ".join(where) if len(where) <= len(others) else f"all but {', '.join(others)}"
        only = ", if configured" if on in IF_CONFIGURED else ""
        rows.append(f"| {on} | {named}{only} | {bounds(timer).replace(' s', '') or 'any'} | {timer.by} |")
    return "\n".join(rows) + "\n"
