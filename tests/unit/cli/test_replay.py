"""A replay as people read it."""

from __future__ import annotations

from typing import Any

from dnms.bus.append import append
from dnms.bus.memory import MemoryLog
from dnms.cli.replay import MAX_LISTED, _lines
from dnms.domain.aggregate import Question, settle
from dnms.domain.document import from_toml
from dnms.domain.plan import PlanState
from dnms.events import codec
from dnms.projections.replay import reading
from dnms.projections.replay.reading import Selection, Step
from dnms.projections.text import instant

POOLS = MAX_LISTED + 1
PLAN = '[site]\nname = "s"\n[[subnet]]\nname = "lan"\nprefixes = ["2001:db8::/64"]\n' + "".join(
    f'[[pool]]\nname = "p{number}"\nsubnet = "lan"\nrange = "2001:db8::{number + 1:x}:0/112"\n'
    for number in range(POOLS)
)


async def lines() -> list[list[str]]:
    """What is printed of each step through a log with one plan."""
    log = MemoryLog("s", log_id="log", now=lambda: 0)
    question = Question(from_toml(PLAN), bytes(32))
    commit, _ = settle(PlanState("s"), [question], commit_id=bytes(16), at=0, predecessor=0, actor="operator/a")
    await append(log, "dnms.s.plan", codec.encode(commit), expected=0)
    steps = [step async for step in reading.steps(log, "s", bytes(32), Selection())]
    return [list(_lines(step, again=number > 0)) for number, step in enumerate(steps)]


async def test_a_plan_of_many_pools_is_told_in_few_words() -> None:
    first, *rest = await lines()
    assert first[0] == "1.0 1970-01-01 00:00:00Z plan operator/a site.defined name s, level 1"
    assert first[1].startswith("    asked plan.apply site s, level 1, ")
    assert first[1].endswith(f"pools ({POOLS} in all)")
    assert first[2:] == ["  - site -", "  + site name s, level 1, strict no, position 1"]
    assert len(rest) == POOLS + 2
    assert all("asked" not in line for told in rest for line in told)
    assert all(len(line) < 300 for told in (first, *rest) for line in told)


def test_what_a_terminal_would_obey_is_spelt_out() -> None:
    step: dict[str, Any] = {
        "position": "1.0",
        "time": instant(0),
        "subject": "dnms.s.node.0a",
        "actor": "agent/a",
        "name": "node.identified",
        "node": "a\x1b[2Jb",
        "fields": {"name": "a\x1b[2Jb"},
        "decision": 0,
        "asked": {"request": "node.identify", "name": "\x1b]0;x\x07"},
        "before": {"node": None},
        "after": {"node": {"name": "a\x1b[2Jb", "hardware": ["\x9b1m"]}},
    }
    told = list(_lines(Step(**step), again=False))
    assert "\x1b" not in "".join(told[1:]), "the first line is spelt out where it is printed"
    assert "\x9b" not in "".join(told[1:])
