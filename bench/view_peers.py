"""The same facts elsewhere: rows in PostgreSQL with an index for the question, and lines of Kea's legal log with grep.

PostgreSQL is started in a folder of its own, on a Unix socket, by an unprivileged user. Its rows are the intervals that
the views answer with; pgbench asks for them with a prepared statement, one after the other. The lines are as Kea's
`libdhcp_legal_log` writes them (Kea Administrator Reference Manual, "Forensic Logging"), one a lease that was given or
renewed.
"""

from __future__ import annotations

import sqlite3
import subprocess
from collections.abc import Sequence
from pathlib import Path

import msgspec

from bench.postgresql import Server, binaries, serving
from bench.sides import Stopwatch
from bench.view_questions import COLD, Asked, Times, times
from dnms.events.ip import format_address
from dnms.projections.text import instant

GET_POSTGRESQL = "PostgreSQL is not installed, so nothing stands beside it; Debian has it: apt-get install postgresql"
GREPS = 20
NULL = r"\N"  # in the text format of COPY

HAD = """
SELECT address, client, source, subnet, since, until FROM (
    SELECT address, client, 'lease' AS source, subnet, since,
        lead(since) OVER (PARTITION BY address, subnet ORDER BY since, sequence, event_index) AS until
    FROM history_lease
    UNION ALL
    SELECT address, CASE used WHEN 1 THEN client END, 'registered', subnet, since,
        lead(since) OVER (PARTITION BY address, client ORDER BY since, sequence, event_index)
    FROM history_use
) WHERE client IS NOT NULL
"""
TABLE = """
CREATE TABLE had (address inet NOT NULL, client bytea NOT NULL, node text, source text NOT NULL, subnet text NOT NULL,
    since bigint NOT NULL, until bigint);
"""
INDEX = "CREATE INDEX had_address ON had (address, since DESC); VACUUM ANALYZE had;"
QUESTION = """\\set question random(1, {last})
SELECT h.client, h.node, h.source, h.subnet, h.since, h.until FROM asked a JOIN had h ON h.address = a.address
    AND h.since <= a.at AND (h.until IS NULL OR h.until > a.at) WHERE a.id = :question;
"""


class PostgreSQL(msgspec.Struct, frozen=True):
    """What it came to."""

    rows: int
    seconds: float  # to copy them and to make the index
    bytes: int  # table and index
    question: Times


class Legal(msgspec.Struct, frozen=True):
    """What grep came to."""

    lines: int
    bytes: int
    question: Times


def postgresql(folder: Path, file: Path, asked: Sequence[Asked]) -> PostgreSQL | None:
    """The facts of the views in `file`; None if it is not installed. RuntimeError if it fails."""
    programs = binaries()
    if programs is None:
        return None
    with serving(folder, programs) as server:
        rows = folder / "rows.tsv"
        count = _rows(file, rows)
        server.sql(TABLE)
        watch = Stopwatch()
        server.sql(f"\\copy had FROM '{rows}'")
        server.sql(INDEX)
        seconds = watch.seconds()
        few = folder / "asked.tsv"
        few.write_text("".join(f"{number}\t{one.text}\t{one.at}\n" for number, one in enumerate(asked, start=1)))
        server.sql("CREATE TABLE asked (id int PRIMARY KEY, address inet, at bigint)")
        server.sql(f"\\copy asked FROM '{few}'")
        server.sql("VACUUM ANALYZE asked")
        size = int(server.sql("SELECT pg_total_relation_size('had')"))
        return PostgreSQL(rows=count, seconds=seconds, bytes=size, question=_ask(server, len(asked)))


def legal(folder: Path, file: Path, asked: Sequence[Asked]) -> Legal:
    """The leases of the views in `file`, as lines."""
    path, count = folder / "kea-legal.txt", 0
    db = sqlite3.connect(f"file:{file}?mode=ro", uri=True)
    try:
        with path.open("w") as lines:
            for name, address, client, time in db.execute(
                "SELECT e.name, e.address, e.client, c.time FROM event e JOIN event_commit c ON c.sequence ="
                " e.position >> 13 WHERE e.name IN ('address.allocated', 'address.renewed') ORDER BY e.position"
            ):
                done = "assigned" if name == "address.allocated" else "renewed"
                lines.write(
                    f"{instant(time):%Y-%m-%d %H:%M:%S.%f} UTC Address: {format_address(address)} has been {done} for "
                    f"96 hrs 0 min 0 secs to a device with DUID: {client.hex(':')}\n"
                )
                count += 1
    finally:
        db.close()
    took: list[float] = []
    for one in asked[: GREPS + 1]:
        watch = Stopwatch()
        subprocess.run(["grep", "-F", f"Address: {one.text} has", str(path)], stdout=subprocess.DEVNULL, check=False)
        took.append(watch.seconds())
    return Legal(lines=count, bytes=path.stat().st_size, question=times(took[1:]))


def _rows(file: Path, to: Path) -> int:
    count = 0
    db = sqlite3.connect(f"file:{file}?mode=ro", uri=True)
    try:
        names = dict(db.execute("SELECT client, name FROM node"))
        with to.open("w") as rows:
            for address, client, source, subnet, since, until in db.execute(HAD):
                node, end = names.get(client) or NULL, NULL if until is None else until
                values = format_address(address), rf"\\x{client.hex()}", node, source, subnet, since, end
                rows.write("\t".join(map(str, values)) + "\n")
                count += 1
    finally:
        db.close()
    return count


def _ask(server: Server, questions: int) -> Times:
    """As many questions as there are, one after the other."""
    script = server.folder / "question.sql"
    script.write_text(QUESTION.format(last=questions).replace("\n    ", " "))
    arguments = ("-n", "-c", "1", "-M", "prepared", "-t", str(questions), "-f", str(script), "-l")
    server.run("pgbench", *arguments, "--log-prefix=asked", "postgres")
    [log] = server.folder.glob("asked.*")
    # client, transaction, latency in microseconds, script, time (pgbench, "Per-Transaction Logging")
    return times([int(line.split()[2]) / 1e6 for line in log.read_text().splitlines()][COLD:])
