"""Subscribers that other installed packages bring."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from dnms.disk.extensions import ExtensionError
from dnms.subscribers import SUBSCRIBERS
from dnms.subscribers.installed import all_subscribers

PACKAGE = """
from dnms.subscribers.caller import Calling
from dnms.subscribers.exec.program import Program
from dnms.subscribers.firewall import SUBSCRIBER as FIREWALL
from msgspec.structs import replace

DOOR = Calling(name="door", about="opens a door", caller=Program.of)
GATE = replace(FIREWALL, name="gate")
WRONG = "no subscriber"
"""


def install(directory: Path, monkeypatch: pytest.MonkeyPatch, entries: str, module: str = PACKAGE) -> None:
    """Put a package with these entry points into a folder of its own, as installers do, and have it found there."""
    (directory / "a_door.py").write_text(module)
    metadata = directory / "a_door-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: a-door\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(f"[dnms.subscribers]\n{entries}\n")
    monkeypatch.syspath_prepend(directory)
    importlib.invalidate_caches()


@pytest.fixture(autouse=True)
def _forget() -> Iterator[None]:
    yield
    sys.modules.pop("a_door", None)


def test_both_forms_are_found_behind_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert all_subscribers() == SUBSCRIBERS
    install(tmp_path, monkeypatch, "door = a_door:DOOR\ngate = a_door:GATE")
    found = all_subscribers()
    assert found[: len(SUBSCRIBERS)] == SUBSCRIBERS
    assert {each.name: each.about for each in found[len(SUBSCRIBERS) :]}.keys() == {"door", "gate"}


@pytest.mark.parametrize(
    ("entries", "why"),
    [
        ("door = a_door:NONE", "subscriber 'door' of a-door cannot be loaded: AttributeError"),
        ("door = a_window:DOOR", "subscriber 'door' of a-door cannot be loaded: ModuleNotFoundError"),
        ("door = a_door:WRONG", "'door' of a-door is no dnms.subscribers.subscriber.Subscriber"),
        ("hatch = a_door:DOOR", "a-door brings 'hatch', and that subscriber's own name is 'door'"),
    ],
)
def test_what_cannot_be_used_says_which_package_brings_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, entries: str, why: str
) -> None:
    install(tmp_path, monkeypatch, entries)
    with pytest.raises(ExtensionError, match=why):
        all_subscribers()


def test_no_package_takes_a_name_of_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, monkeypatch, "exec = a_door:DOOR", module=PACKAGE.replace('"door"', '"exec"'))
    with pytest.raises(
        ExtensionError, match="a-door brings a subscriber 'exec', and there is one of that name already"
    ):
        all_subscribers()
