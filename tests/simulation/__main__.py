"""`python -m tests.simulation --seed N` replays one seed and prints its trace; `--schedules N` runs the first N."""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor

from tests.simulation.run import Verdict, simulate


def main(argv: list[str]) -> int:
    """0, or 1 if anything was wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--seed", type=int, help="run this one, and print what happened")
    which.add_argument("--schedules", type=int, help="run so many, and print what was wrong")
    parser.add_argument("--first", type=int, default=0, help="the first seed of --schedules (default: %(default)s)")
    parser.add_argument("--counts", action="store_true", help="print how often what happened in --schedules")
    arguments = parser.parse_args(argv)
    if arguments.seed is not None:
        return _report(simulate(arguments.seed), whole=True)
    began, failed, commits, seconds = time.monotonic(), 0, 0, 0.0
    counts: Counter[str] = Counter()
    seeds = range(arguments.first, arguments.first + arguments.schedules)
    with ProcessPoolExecutor() as pool:
        for verdict in pool.map(simulate, seeds, chunksize=4):
            failed += _report(verdict, whole=False)
            commits += verdict.commits
            seconds += verdict.seconds
            counts.update(verdict.counts)
    took = time.monotonic() - began
    hours = seconds / 3600
    print(f"{len(seeds)} schedules, {failed} wrong; {commits} commits, {hours:.0f} virtual hours in {took:.0f} s")
    if arguments.counts:
        for what, times in sorted(counts.items()):
            print(f"{times:9} {what}")
    return 1 if failed else 0


def _report(verdict: Verdict, *, whole: bool) -> int:
    if whole:
        print("\n".join(verdict.lines))
    for line in verdict.wrong:
        print(f"seed {verdict.seed}: {line}")
    return 1 if verdict.wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
