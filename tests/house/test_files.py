"""Every file: what it is for stands at its top, it is one sitting long, and it names no machine of ours."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from tests.house.tree import ROOT, name, python, tracked

LONGEST = 500  # lines; one subject and one reader's sitting is about 400

HOSTS = re.compile(
    r"""
    localhost | 127\.0\.0\.1 | \[::1\]                              # this machine
    | 192\.0\.2\.\d+ | \[?(2001:db8|fe80):[0-9a-z:%]*            # RFC 5737, RFC 3849, a link
    | ([\w-]+\.)*example(\.(org|com|net))? | [\w.-]+\.(test|invalid)  # RFC 2606
    | \[?[${<…].* | host | site | bus | api | [a-z]                     # a place for a name
    | github\.com | (www\.)?(apache\.org|rfc-editor\.org|keepachangelog\.com|semver\.org)
    """,
    re.VERBOSE | re.IGNORECASE,
)
"""Whom a URL in the tree may name: nobody's machine, what documentation reserves, and where standards are kept."""

PRIVATE = re.compile(r"(?<![\w.])/(home|Users|root)/\w+|(?<![\w/.])/(work)/\w+")
"""Folders of somebody's machine. Their names stand apart from the strokes, so that this file is looked at as well."""


@pytest.mark.parametrize("path", python("dnms", "bench"), ids=name)
def test_every_module_says_what_it_is_for(path: Path) -> None:
    assert ast.get_docstring(ast.parse(path.read_text())), f"{name(path)} has no docstring"


def test_every_package_of_dnms_says_what_it_is_for() -> None:
    folders = {path.parent for path in python("dnms")}
    assert not [name(folder) for folder in folders if not (folder / "__init__.py").is_file()]


def test_no_file_is_too_long() -> None:
    lengths = {name(path): path.read_text().count("\n") for path in python("dnms", "tests", "bench")}
    assert not {path: lines for path, lines in lengths.items() if lines > LONGEST}


def texts() -> dict[str, str]:
    found = {}
    for path in tracked():
        try:
            found[name(path)] = path.read_text()
        except UnicodeDecodeError:
            continue
    return found


def test_no_path_of_a_machine_stands_in_the_tree() -> None:
    own = [str(ROOT), str(Path.home()) + "/"]
    for path, text in texts().items():
        assert not [each for each in own if each in text], path
        assert not PRIVATE.search(text), (path, PRIVATE.search(text))


def test_no_host_stands_in_the_tree() -> None:
    for path, text in texts().items():
        if path == "LICENSE":
            continue
        for url in re.findall(r"\b(?:https?|nats|tls)://([^\s/\"'`)>,;]*)", text):
            host = re.sub(r"^[^@]*@", "", url.replace("\\", "").rstrip(".:"))
            host = re.sub(r"(?i):(\d+|port|\{.*|\$.*|…|\*)?$", "", host)
            assert not host or HOSTS.fullmatch(host), f"{path} names {url}"


def test_the_pinned_versions_name_no_place() -> None:
    for line in (ROOT / "constraints.txt").read_text().splitlines():
        assert re.fullmatch(r"#.*|[A-Za-z0-9._-]+==[A-Za-z0-9._+!-]+", line), line


REAL_TIME = [path for path in python("tests") if not path.is_relative_to(ROOT / "tests" / "simulation")]
"""In a simulation time is virtual: a sleep there is how long a disk or a link takes, and nobody waits for it."""


@pytest.mark.parametrize("path", REAL_TIME, ids=name)
def test_no_test_sleeps_for_a_fixed_time(path: Path) -> None:
    module = ast.parse(path.read_text())
    loops = [node for node in ast.walk(module) if isinstance(node, ast.While | ast.For | ast.AsyncFor)]
    polls = {inner for loop in loops for inner in ast.walk(loop)}
    for node in ast.walk(module):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "sleep":
            yields = isinstance(node.args[0], ast.Constant) and node.args[0].value == 0
            assert yields or node in polls, (
                f"{name(path)}:{node.lineno}: wait for a condition, in a loop with a deadline"
            )
