"""A process that is there to be killed: it makes the world of a subscriber as an example wants it, and empty, in turns.

`python -m tests.netns.subscribers.endless NAME` says a line before each time that it changes something.
"""

from __future__ import annotations

import asyncio
import sys

from tests.contracts.subscribers.logs import STATES, examples, local


async def work(name: str) -> None:
    subscriber = next(each for each in STATES if each.name == name)
    wanted = max(examples(name), key=lambda each: len(each.log)).wanted
    assert wanted is not None
    world = subscriber.world(local(name))
    while True:
        for goal in (wanted, frozenset()):
            plan = subscriber.plan(goal, await world.actual())
            print("now", flush=True)
            await world.apply(plan)


if __name__ == "__main__":
    asyncio.run(work(sys.argv[1]))
