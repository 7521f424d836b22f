"""`dnms prefix` and `dnms why`, over the API and from the views alike."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from dnms.cli.exits import NO, OK, USAGE
from dnms.events.recorded import Event
from dnms.events.uplink import UplinkReceived
from tests.contracts.projections.test_prefixes import LOG
from tests.system.cli.conftest import PATIENCE, Served, dnms, serving, write
from tests.system.cli.test_questions import Asked

LAST = "in sales-6"


def here(event: Event) -> Event:
    """An event of a log whose id is not known beforehand."""
    if not isinstance(event, UplinkReceived):
        return event
    return msgspec.structs.replace(event, source=msgspec.structs.replace(event.source, log=""))


@pytest.fixture(scope="module")
def delegating(site: Path) -> Iterator[Served]:
    """A site with delegations over two subnets."""
    with serving(site) as served:
        write(served, [(each.subject, each.time, tuple(map(here, each.events))) for each in LOG])
        deadline = time.monotonic() + PATIENCE
        while LAST not in (said := dnms("event", "list", environment=served.environment)).out:
            assert time.monotonic() < deadline
        tree = dnms("prefix", "tree", environment=served.environment)
        assert "2001:db8:1:11::/64" in tree.out, (tree, said)
        yield served


@pytest.fixture
def ask(delegating: Served, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Asked:
    return Asked(delegating, capfd, monkeypatch)


QUESTIONS = [
    ("prefix list", OK),
    ("prefix list --subnet vms", OK),
    ("prefix list --state released", OK),
    ("prefix list --uplinks", OK),
    ("prefix list --at #1", OK),
    ("prefix tree", OK),
    ("prefix tree 2001:db8:1:11::/64", OK),
    ("prefix history 2001:db8:1:10::/60", OK),
    ("prefix history 2001:db8:9::/60", NO),
    ("who-had 2001:db8:1:1f::9", OK),
    ("why 2001:db8:1:10::/60", OK),
    ("why 2001:db8:1:10::5", OK),
    ("why 2001:db8:1:10::5 in sales-6", OK),
    ("why 2001:db8:1:11::/64 via fe80::b dev br0 proto 199 metric 1025 pref medium", OK),
    ("why unreachable 2001:db8:1::/56 dev lo metric 4096", OK),
    ("why 2001:db8:9::1", NO),
    ("why", USAGE),
    ("why laptop", USAGE),
]


@pytest.mark.parametrize("output", ["table", "json", "csv"])
@pytest.mark.parametrize(("words", "code"), QUESTIONS)
def test_the_api_and_the_views_answer_the_same(ask: Asked, words: str, code: int, output: str) -> None:
    over_api, from_views = ask.api(f"{words} -o {output}"), ask.data(f"{words} -o {output}")
    assert over_api[:2] == from_views[:2]
    if code == OK:
        assert over_api[0] == OK, over_api
    else:
        assert over_api[0] != OK
        assert from_views[0] == code
    assert "Traceback" not in over_api[2] + from_views[2]


@pytest.mark.parametrize("output", ["table", "json"])
def test_one_prefix(ask: Asked, output: str) -> None:
    for prefix in ("2001:db8:1:10::/60", "2001:db8:1:10::/64", "2001:db8:1::/56"):
        over_api = ask.api(f"prefix show {prefix} -o {output}")
        assert over_api == ask.data(f"prefix show {prefix} -o {output}")
        assert over_api[0] == OK
    assert ask.api("prefix show 2001:db8:9::/60")[0] == ask.data("prefix show 2001:db8:9::/60")[0] == NO


def test_the_tree_is_set_in(ask: Asked) -> None:
    lines = ask.api("prefix tree")[1].splitlines()
    assert any(line.lstrip(" │|").startswith("2001:db8:1::/56") for line in lines)
    assert any("    2001:db8:1:10::/60" in line and "over home-router" in line for line in lines)
    why = ask.api("why 2001:db8:1:10::/60 via fe80::a dev eth1")[1]
    assert "has added the route" in why
    assert "no log says why" in why
