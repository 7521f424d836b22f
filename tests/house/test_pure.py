"""Events, domain and wire take time and chance as arguments and do no I/O. The imports are in test_imports.py."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.house.tree import name, python

FORBIDDEN = {"open", "print", "input", "breakpoint", "exec", "eval", "__import__"}


@pytest.mark.parametrize("path", python("dnms/events", "dnms/domain", "dnms/wire"), ids=name)
def test_no_builtin_that_does_io_and_nothing_asynchronous(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        place = f"{name(path)}:{getattr(node, 'lineno', 0)}"
        assert not isinstance(node, ast.AsyncFunctionDef | ast.AsyncFor | ast.AsyncWith | ast.Await), place
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id not in FORBIDDEN, place
        if isinstance(node, ast.Attribute):  # datetime.now() and the like: a clock in the core
            assert (
                node.attr not in {"now", "utcnow", "today"}
                or not isinstance(node.value, ast.Name)
                or (node.value.id not in {"datetime", "date"})
            ), place
