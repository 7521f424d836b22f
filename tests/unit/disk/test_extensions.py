"""Strategies that other installed packages bring."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from dnms.disk.extensions import ExtensionError, load_strategies
from dnms.domain import strategies
from dnms.domain.aggregate import Refused
from dnms.domain.document import from_toml
from dnms.domain.ledger import Ledger
from dnms.domain.plan import PlanState
from dnms.events.ip import format_address
from dnms.events.plan import PlanAdopted
from dnms.events.requests import AllocateAddress

MODULE = """
from dnms.domain.strategies import Strategy
BACKWARDS = Strategy(candidate=lambda asking, n: asking.ranges.size - 1 - n)
OTHER = "no strategy"
"""
PLAN = """
[site]
name = "s"
[[subnet]]
name = "lan"
prefixes = ["192.0.2.0/24"]
[[pool]]
name = "four"
subnet = "lan"
range = "192.0.2.16-192.0.2.31"
strategy = "backwards"
"""


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder in which a package is installed; write its entry points."""
    (tmp_path / "a_package.py").write_text(MODULE)
    metadata = tmp_path / "a_package-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: a-package\nVersion: 1.0\n")
    monkeypatch.syspath_prepend(tmp_path)
    before = dict(strategies.STRATEGIES)
    importlib.invalidate_caches()
    yield metadata / "entry_points.txt"
    strategies.STRATEGIES.clear()
    strategies.STRATEGIES.update(before)


def adopted() -> PlanState:
    state = PlanState()
    for event in state.decide(from_toml(PLAN), at=0, entropy=bytes(32)):
        state.evolve(event, at=0, position=1)
    return state


def test_a_strategy_of_another_package_picks_addresses(installed: Path) -> None:
    installed.write_text("[dnms.strategies]\nbackwards = a_package:BACKWARDS\n")
    with pytest.raises(Refused, match="there is no strategy 'backwards'"):
        adopted()
    load_strategies()
    load_strategies()
    ledger = Ledger(b"s" * 32)
    ledger.evolve(PlanAdopted(plan=adopted().for_subnet("lan")), at=0, position=2)
    request = AllocateAddress(client=bytes(16), iaid=1, family=4)
    [given] = ledger.decide(request, at=0, entropy=b"")
    assert format_address(getattr(given, "address", b"")) == "192.0.2.31"
    del strategies.STRATEGIES["backwards"]  # as on a machine where it is not installed
    with pytest.raises(Refused, match="install the package that brings that strategy"):
        ledger.decide(request, at=0, entropy=b"")


@pytest.mark.parametrize(
    ("entry", "why"),
    [
        ("backwards = a_package:OTHER", "is no dnms.domain.strategies.Strategy"),
        ("backwards = a_package:MISSING", "cannot be loaded"),
        ("backwards = no_such_package:X", "cannot be loaded"),
        ("hash = a_package:BACKWARDS", "there is one of that name already"),
    ],
)
def test_what_cannot_be_used_is_said_with_its_package(installed: Path, entry: str, why: str) -> None:
    installed.write_text(f"[dnms.strategies]\n{entry}\n")
    with pytest.raises(ExtensionError, match=f"a-package.*{why}"):
        load_strategies()
