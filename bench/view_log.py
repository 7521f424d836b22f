"""The log of `bench.visits` in an archive, as a log that is read from its files, and what comes behind it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec

from bench.sides import Stopwatch
from bench.visits import SITE, Visits
from dnms.archive.copying import Source
from dnms.archive.segments import Archive, writing
from dnms.bus.port import Record

LOG_ID = "b" * 32
BLOCK = 1_000  # records that are handed on to the archive at once


class Generated(msgspec.Struct, frozen=True):
    """What was made."""

    events: int
    commits: int
    nodes: int
    subnets: int
    days: int
    bytes_an_event: float  # of the commits
    seconds: float  # deciding, encoding, compressing and writing


def generate(folder: Path, events: int, *, seed: int = 0) -> tuple[Generated, Iterator[Record]]:
    """Write a log of so many events, and perhaps a few more; what there is, and the records that would come next."""
    watch, visits, size = Stopwatch(), Visits(events, seed=seed), 0
    records = visits.records()
    with writing(folder, site=SITE, log_id=LOG_ID) as archive:
        block: list[Record] = []
        for record in records:
            block.append(record)
            size += len(record.data)
            if len(block) == BLOCK:
                archive.add(block)
                block = []
            if visits.events >= events:
                break
        archive.add(block)
        archive.flush()
    made = Generated(
        events=visits.events,
        commits=visits.sequence,
        nodes=len(visits.nodes),
        subnets=len(visits.subnets),
        days=visits.today,
        bytes_an_event=size / visits.events,
        seconds=watch.seconds(),
    )
    return made, records


def source(folder: Path) -> Source:
    """It, to be copied onto a bus."""
    archive = Archive.open(folder)
    return Source(archive.site, archive.log_id, archive.end, archive.all)
