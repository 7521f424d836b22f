"""Lists for programs, whatever stands in them, and holdings for people."""

from __future__ import annotations

import csv
import io
import json
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from rich.console import Console

from dnms.cli.listing import listed
from dnms.cli.who_had import tables
from dnms.projections.history.holding import Holding

WHEN = datetime(2026, 3, 1, 12, tzinfo=UTC)


class Row(msgspec.Struct):
    text: str | None
    when: datetime
    number: int
    yes: bool
    parts: dict[str, Any]


ROWS = [
    Row('a "quoted", and\nbroken text', WHEN, 7, True, {"a": [1, "b,c"]}),
    Row(None, WHEN, -1, False, {}),
    Row("=SUM(A1)", WHEN, 0, True, {}),
]


def test_csv_has_every_text_as_it_is_and_all_else_as_in_json(capfd: pytest.CaptureFixture[str]) -> None:
    listed(ROWS, Row, list, "csv")
    names, *rows = csv.reader(io.StringIO(capfd.readouterr().out))
    assert names == ["text", "when", "number", "yes", "parts"]
    assert rows == [
        ['a "quoted", and\nbroken text', "2026-03-01T12:00:00Z", "7", "true", '{"a":[1,"b,c"]}'],
        ["", "2026-03-01T12:00:00Z", "-1", "false", "{}"],
        ["=SUM(A1)", "2026-03-01T12:00:00Z", "0", "true", "{}"],
    ]


def test_json_lines_are_the_rows_of_json(capfd: pytest.CaptureFixture[str]) -> None:
    listed(ROWS, Row, list, "jsonl")
    lines = capfd.readouterr().out.splitlines()
    listed(ROWS, Row, list, "json")
    assert [json.loads(line) for line in lines] == json.loads(capfd.readouterr().out)
    assert len(lines) == len(ROWS)


def test_no_rows_are_a_line_of_names_in_csv_and_nothing_in_json_lines(capfd: pytest.CaptureFixture[str]) -> None:
    listed([], Row, list, "csv")
    assert capfd.readouterr().out == "text,when,number,yes,parts\n"
    listed([], Row, list, "jsonl")
    assert capfd.readouterr().out == ""


def _holding(address: str, client: str, node: str | None) -> Holding:
    return Holding(
        address=address,
        client=client,
        node=node,
        source="lease",
        subnet="lan",
        pool="six",
        interface=None,
        origin=None,
        since=WHEN,
        until=None,
        opened="1.0",
        opened_by="address.allocated",
        closed=None,
        closed_by=None,
    )


def test_holdings_have_a_table_an_address_and_tell_namesakes_apart() -> None:
    found = [
        _holding("2001:db8::1", "0a" * 16, "twin"),
        _holding("2001:db8::1", "0b" * 16, "twin"),
        _holding("2001:db8::2", "0c" * 16, "alone"),
        _holding("2001:db8::2", "0d" * 16, None),
    ]
    out = io.StringIO()
    for table in tables(found):
        Console(file=out, width=100).print(table)
    said = out.getvalue()
    assert said.count("Node") == 2
    assert said.index("2001:db8::1") < said.index("twin (0a0a0a0a)") < said.index("twin (0b0b0b0b)")
    assert said.index("2001:db8::2") < said.index("alone ") < said.index("0d" * 16)
