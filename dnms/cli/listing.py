"""Lists: a table for people, and JSON, JSON lines or CSV for programs."""

from __future__ import annotations

import csv
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Annotated, Any, Literal

import msgspec
from cyclopts import Parameter
from rich.console import RenderableType

from dnms.cli.rendering import answer, json_line

Listing = Annotated[
    Literal["table", "json", "jsonl", "csv"],
    Parameter(name=["--output", "-o"], help="A table for people, JSON, JSON lines, or CSV with a line of names."),
]


def listed(
    rows: Sequence[msgspec.Struct],
    kind: type[msgspec.Struct],
    tables: Callable[[], Iterable[RenderableType]],
    output: Literal["table", "json", "jsonl", "csv"],
) -> None:
    """Print a list of rows of one kind."""
    match output:
        case "jsonl":
            for row in rows:
                json_line(row)
        case "csv":
            # RFC 4180, but for the ends of its lines: those are of this machine, as those of all that is printed.
            writer = csv.writer(sys.stdout, lineterminator="\n")
            writer.writerow(kind.__struct_fields__)
            for row in rows:
                plain = msgspec.to_builtins(row)
                writer.writerow([_cell(plain.get(name)) for name in kind.__struct_fields__])
            sys.stdout.flush()
        case _:
            answer(rows, tables, output)


def _cell(value: Any) -> str:
    """Texts as they are, nothing for null, all else as in JSON."""
    if value is None:
        return ""
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()
