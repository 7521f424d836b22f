"""Nodes in a file, a line each: CSV with a header, or JSON lines."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from dnms.cli.exits import USAGE, Failure

COLUMNS = ("name", "duid", "mac", "group", "subnets", "interface")
WHO = ("duid", "mac")
"""One of these says who a node is."""


class Row(msgspec.Struct, frozen=True):
    """One line: what the API is asked for, or what is wrong with it."""

    line: int
    document: dict[str, Any]
    wrong: str = ""


def rows(file: Path) -> list[Row]:
    """All lines with something in them; Failure if it cannot be read, or is neither form."""
    try:
        text = file.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise Failure(USAGE, f"cannot read {file}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise Failure(USAGE, f"{file}: expected UTF-8; byte {error.start} is none") from error
    found = list(_of_json(text) if text.lstrip().startswith("{") else _of_csv(file, text))
    if not found:
        raise Failure(
            USAGE, f"{file}: there is no node in it; the first line names the columns, each other one is a node"
        )
    return found


def _of_json(text: str) -> Iterator[Row]:
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            yield _row(number, msgspec.json.decode(line, type=dict[str, Any]))
        except (msgspec.MsgspecError, UnicodeEncodeError) as error:
            yield Row(number, {}, f"expected a JSON object: {error}")


def _of_csv(file: Path, text: str) -> Iterator[Row]:
    reader = csv.reader(text.splitlines(), strict=True)
    try:
        header = [name.strip().lower() for name in next(reader, [])]
        if unknown := [name for name in header if name not in COLUMNS]:
            raise Failure(USAGE, f"{file}:1: no column is called {unknown[0]!r}; expected some of {', '.join(COLUMNS)}")
        if twice := [name for name in header if header.count(name) > 1]:
            raise Failure(USAGE, f"{file}:1: the column {twice[0]!r} is there twice")
        if "name" not in header or not any(name in header for name in WHO):
            missing = "'duid' or 'mac'" if "name" in header else "'name'"
            raise Failure(USAGE, f"{file}:1: the column {missing} is missing; the first line names the columns")
        for values in reader:
            if not any(value.strip() for value in values):
                continue
            if len(values) != len(header):
                yield Row(reader.line_num, {}, f"expected {len(header)} values, found {len(values)}")
                continue
            given = {key: value.strip() for key, value in zip(header, values, strict=True) if value.strip()}
            yield _row(reader.line_num, given)
    except csv.Error as error:
        raise Failure(USAGE, f"{file}:{reader.line_num}: not CSV: {error}") from error


def _row(line: int, given: dict[str, Any]) -> Row:
    document = {key: value for key, value in given.items() if value is not None}
    if isinstance(document.get("subnets"), str):
        document["subnets"] = document["subnets"].replace(";", " ").split()
    if not document.get("name"):
        return Row(line, document, "name is missing")
    if not any(document.get(key) for key in WHO):
        return Row(line, document, "duid or mac is missing")
    return Row(line, document)
