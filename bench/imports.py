"""What the imports of a Node Agent cost, one after the other. `python -m bench.imports` prints JSON.

It takes in as little as it can itself: what is in memory after a step, it and the steps before it have taken in.
"""

import sys
import time

STEPS = (
    ("Python", ()),
    ("asyncio, ssl", ("asyncio", "ssl")),
    ("msgspec", ("msgspec",)),
    ("structlog", ("dnms.agents", "structlog")),  # the first keeps rich out of the second
    ("dnms", ("dnms.agents.node.__main__",)),
)


def taken_in() -> list[tuple[str, float, int, int]]:
    """Of each step: its name, the seconds that it took, and RSS and PSS after it, in bytes."""
    found = []
    for name, modules in STEPS:
        begin = time.perf_counter()
        for module in modules:
            __import__(module)
        seconds = time.perf_counter() - begin
        found.append((name, seconds, *_held()))
    return found


def _held() -> tuple[int, int]:
    sizes = {}
    with open("/proc/self/smaps_rollup") as lines:  # noqa: PTH123  # pathlib is one of what is measured
        for line in lines:
            name, size, *_ = line.split()
            sizes[name] = size
    return int(sizes["Rss:"]) << 10, int(sizes["Pss:"]) << 10


if __name__ == "__main__":
    rows = (f'["{name}", {seconds}, {rss}, {pss}]' for name, seconds, rss, pss in taken_in())
    sys.stdout.write(f"[{', '.join(rows)}]")
