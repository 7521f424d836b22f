"""Lists, and what is shown, as of a moment: of the API and of the views themselves."""

from __future__ import annotations

import json

import pytest

from dnms.cli.exits import NO, OK, USAGE
from tests.system.cli.test_questions import Asked, ask, folded

__all__ = ["ask", "folded"]  # fixtures

THEN, NOW = "2026-03-01T12:30:00Z", "2026-03-01T16:00:00Z"


@pytest.mark.parametrize("output", ["table", "json"])
@pytest.mark.parametrize("at", [THEN, NOW, "#2", "#3"])
@pytest.mark.parametrize(
    "words",
    [
        "node list",
        "node show alpha",
        "address list",
        "address show 2001:db8:1:1::5",
        "pool list",
        "pool show office-v6",
    ],
)
def test_the_api_and_the_views_say_the_same(ask: Asked, words: str, at: str, output: str) -> None:
    asked = f"{words} --at {at} -o {output}"
    over_api, from_views = ask.api(asked), ask.data(asked)
    assert over_api[:2] == from_views[:2]
    assert "Traceback" not in over_api[2]
    if over_api[0] == OK:
        assert over_api[2].startswith("dnms: as of commit ")
        assert from_views[2].startswith(over_api[2].rstrip("\n"))


def _listed(ask: Asked, words: str) -> list[dict[str, str]]:
    code, out, _ = ask.api(f"{words} -o json")
    assert code == OK
    found: list[dict[str, str]] = json.loads(out)
    return found


def test_who_held_an_address_then(ask: Asked) -> None:
    then, now = (
        {each["address"]: each["node"] for each in _listed(ask, f"address list --at {at}") if each["state"] == "held"}
        for at in (THEN, NOW)
    )
    assert (then["2001:db8:1:1::5"], now["2001:db8:1:1::5"]) == ("beta", "alpha")
    assert _listed(ask, f"address list --at {NOW}") == _listed(ask, "address list")


def test_there_was_nothing_before_the_first_commit_and_there_is_nothing_after_the_last(ask: Asked) -> None:
    code, _, err = ask.api("node list --at 1999-01-01")
    assert (code, err.splitlines()[-1]) == (NO, "dnms: nothing had happened by 1999-01-01T00:00:00+00:00")
    code, _, err = ask.data("node list --at #99999")
    assert (code, "there is no commit 99999; the views have the commits 1 to" in err) == (NO, True)
    assert ask.api("node list --at #x")[0] == USAGE
