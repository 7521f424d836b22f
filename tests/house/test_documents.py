"""What the documents tell a reader to type exists, and what they point to is there."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from cyclopts import CycloptsError

from dnms.cli import AGENTS
from dnms.cli.app import COMMANDS, make
from dnms.domain.document import from_toml
from dnms.domain.plan import PlanState
from tests.house.tree import ROOT, commands, name, tracked

DOCUMENTS = [path for path in tracked() if path.suffix == ".md"]
README = ROOT / "README.md"
FEATURES = ROOT / "docs" / "features.md"

TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
ROW = re.compile(r"^\|\s*([A-Z]\d+)\s*\|([^|]*)\|([^|]*)\|([^|]*)\|\s*$", re.MULTILINE)
PATH = re.compile(r"`([^`]+)`")


def check(command: str) -> None:
    """Every `make` and every `dnms` of one command line is one that this project has; nothing is run."""
    words = shlex.split(command, comments=True)
    while words and (words[0] in {"sudo", "time", "exec"} or re.fullmatch(r"\w+=.*", words[0])):
        words = words[1:]
    for stop in ("|", "&&", ";", "&", ">", "2>"):
        if stop in words:
            at = words.index(stop)
            check(shlex.join(words[at + 1 :]))
            words = words[:at]
    if not words:
        return
    if words[0] == "make":
        for word in words[1:]:
            assert word.startswith("-") or "=" in word or word in TARGETS, f"the Makefile has no {word!r}"
    elif Path(words[0]).name == "dnms":
        check_dnms(words[1:])


def check_dnms(words: list[str]) -> None:
    assert words, "dnms alone does nothing"
    assert words[0].startswith("-") or words[0] in {command for _, command, _, _ in COMMANDS}, f"no dnms {words[0]}"
    if words[0] in AGENTS:  # they parse for themselves
        return
    try:
        make().parse_args(words, exit_on_error=False, print_error=False)
    except CycloptsError as error:
        pytest.fail(f"dnms {shlex.join(words)}: {error}")


@pytest.mark.parametrize("path", DOCUMENTS, ids=name)
def test_every_command_in_a_document_exists(path: Path) -> None:
    for command in commands(path.read_text()):
        check(command)


def test_the_readme_begins_with_the_two_commands_of_a_new_machine() -> None:
    told = commands(README.read_text())
    assert "make demo" in told
    assert "make test" in told


@pytest.mark.parametrize(
    "command",
    [
        "make dmeo",
        "dnms ndoe list",
        "dnms node lits",
        "dnms doctor --instal",
        "dnms lab run basik",
        "true && make dmeo",
    ],
)
def test_a_command_that_does_not_exist_is_found(command: str) -> None:
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        check(command)


@pytest.mark.parametrize("path", DOCUMENTS, ids=name)
def test_every_relative_link_of_a_document_leads_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\((?!\w+:|#)([^)#\s]+)(?:#[^)]*)?\)", path.read_text()):
        assert (path.parent / target).exists(), target


def test_every_feature_names_code_and_a_test_that_are_there() -> None:
    rows = ROW.findall(FEATURES.read_text())
    assert rows, "docs/features.md has no row `| id | state | code | test |`"
    names = [row[0] for row in rows]
    assert len(set(names)) == len(names), "an id has two rows"
    for identifier, state, code, test in rows:
        assert state.strip(), identifier
        for cell in (code, test):
            for entry in PATH.findall(cell):
                path, _, function = entry.partition("::")
                assert (ROOT / path).exists(), f"{identifier}: there is no {path}"
                assert not function or f"def {function}(" in (ROOT / path).read_text(), f"{identifier}: {entry}"
        if state.strip() == "works":
            assert PATH.findall(code), f"{identifier} works, and no code is named"
            assert PATH.findall(test), f"{identifier} works, and no test is named"


PLANS = [
    pytest.param(block, id=f"{name(path)}-{index}")
    for path in DOCUMENTS
    for index, block in enumerate(re.findall(r"^```toml\n(.*?)^```", path.read_text(), re.MULTILINE | re.DOTALL))
]


def test_documents_show_plans() -> None:
    assert len(PLANS) >= 2


@pytest.mark.parametrize("text", PLANS)
def test_every_plan_of_a_document_would_be_applied(text: str) -> None:
    assert PlanState().decide(from_toml(text), at=0, entropy=bytes(32))
