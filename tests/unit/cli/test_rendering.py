from __future__ import annotations

import io
import json
from datetime import UTC, datetime, timedelta, timezone

import msgspec
import pytest
from rich.console import Console
from rich.text import Text

from dnms.cli import rendering
from dnms.kit import tables

WHEN = datetime(2026, 3, 1, 12, 30, 5, 250_000, tzinfo=UTC)


class Row(msgspec.Struct):
    name: str
    when: datetime


def shown(table: object, width: int) -> str:
    out = io.StringIO()
    Console(file=out, width=width).print(table)
    return out.getvalue()


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "-"),
        ("", "-"),
        ([], "-"),
        (0, "0"),
        (True, "yes"),
        (False, "no"),
        (WHEN, "2026-03-01 12:30:05Z"),
        (WHEN.astimezone(timezone(timedelta(hours=2))), "2026-03-01 12:30:05Z"),
        (["a", None, 3], "a, -, 3"),
        ({"a": 1, "b": False}, "a 1, b no"),
        ("[red]name[/]", "[red]name[/]"),
        ("bell\x07 and \x1b[2J", "bell\\x07 and \\x1b[2J"),
        ("two\nlines\u202e", "two\\nlines\\u202e"),
    ],
)
def test_a_value_for_people_is_plain_text(value: object, text: str) -> None:
    assert rendering.cell(value).plain == text


def test_json_is_one_line_on_stdout_and_nothing_else(capfd: pytest.CaptureFixture[str]) -> None:
    rendering.answer([Row("a\n", WHEN)], lambda: [Text("not asked for")], "json")
    rendering.say("progress")
    out, err = capfd.readouterr()
    assert out.endswith("\n")
    assert len(out.splitlines()) == 1
    assert json.loads(out) == [{"name": "a\n", "when": "2026-03-01T12:30:05.250000Z"}]
    assert err == "dnms: progress\n"


def test_a_table_is_neither_cut_nor_wrapped_where_there_is_no_terminal(capfd: pytest.CaptureFixture[str]) -> None:
    long = "x" * 500
    rendering.answer([], lambda: [rendering.table(("One", "Other"), [(long, "end")])], "table")
    lines = capfd.readouterr().out.splitlines()
    assert [len(lines), lines[0].split(), lines[2].split()] == [3, ["One", "Other"], [long, "end"]]


def test_a_narrow_terminal_gets_every_character() -> None:
    address = "2001:db8:1:1:5a1e:6f2b:9c3d:8e7f"
    out = shown(rendering.table(("Address", "Node"), [(address, "a" * 40)]), width=30)
    assert sum(out.count(digit) for digit in "0123456789") == sum(address.count(digit) for digit in "0123456789")
    assert out.count("a") == 40 + address.count("a")
    assert max(map(len, out.splitlines())) <= 30


def test_a_terminal_that_is_wide_enough_for_the_words_gets_them_whole() -> None:
    address = "2001:db8:1:1:5a1e:6f2b:9c3d:8e7f"
    row = (address, "a-node-of-mine", "office", "office-v6", WHEN)
    out = shown(rendering.table(("Address", "Node", "Subnet", "Pool", "Valid until"), [row]), width=80)
    assert max(map(len, out.splitlines())) <= 80
    words = out.split()
    assert {address, "a-node-of-mine", "office", "office-v6", "2026-03-01", "12:30:05Z"} <= set(words)


def test_a_list_breaks_behind_its_commas() -> None:
    addresses = ["2001:db8:1:1:5a1e:6f2b:9c3d:8e7f", "192.0.2.117", "192.0.2.118"]
    out = shown(rendering.table(("Node", "Addresses"), [("alpha", addresses)]), width=40)
    assert [line.split()[-1].rstrip(",") for line in out.splitlines()[2:]] == [addresses[0], addresses[2]]
    assert "192.0.2.117, 192.0.2.118" in out


def test_a_table_without_rows_has_its_head() -> None:
    assert shown(rendering.table(("Address", "Node"), []), width=30).splitlines()[0].split() == ["Address", "Node"]


@pytest.mark.parametrize("width", [1, 3, 8, 20, 39, 60, 200])
def test_no_line_is_wider_than_a_terminal_that_has_room_for_a_character_a_column(width: int) -> None:
    out = shown(rendering.table(("One", "Another", ""), [("x" * 30, "two words", ""), ("", "y", "z")]), width=width)
    assert max(map(len, out.splitlines())) <= max(width, 3 + 2 * tables.GAP)


def test_text_of_many_lines_is_printed_as_it_is(capfd: pytest.CaptureFixture[str]) -> None:
    text = '[site]\nname = "a"\n\n[[pool]]\nrange = "' + "1" * 300 + '"'
    rendering.answer({}, lambda: [Text(text)], "table")
    assert capfd.readouterr().out == f"{text}\n"
