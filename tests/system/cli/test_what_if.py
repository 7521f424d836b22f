"""`dnms what-if` over a site's real log."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dnms.cli.exits import OK, USAGE
from tests.system.cli.conftest import NAME, PLAN, Done, Served, dnms


def what_if(served: Served, plan: str, directory: Path, *words: str) -> Done:
    file = directory / "plan.toml"
    file.write_text(plan)
    return dnms("what-if", file, *words, "--bus", served.bus, environment=served.environment)


def test_a_changed_plan_over_the_log(served: Served, tmp_path: Path) -> None:
    smaller = PLAN.replace('range = "2001:db8:1:1::/64"', 'range = "2001:db8:1:1::1000-2001:db8:1:1::1fff"')
    done = what_if(served, smaller, tmp_path, "--since", "1000000", "-o", "json")
    assert (done.code, done.err) == (OK, "")
    found = json.loads(done.out)
    held = json.loads(dnms("address", "list", "-o", "json", environment=served.environment).out)
    leases = {row["address"]: row["client"] for row in held if row["state"] == "held"}
    assert leases
    assert found["withdrawn"] == len(leases)
    assert {move["had"] for move in found["moves"]} <= leases.keys()
    assert found["moves"][0]["would_have"].startswith("2001:db8:1:1::1")
    [pool] = found["pools"]
    # Of two on one interface one is asked for anew.
    assert (pool["pool"], pool["size"], pool["held_last"]) == ("office-v6", 0x1000, len(set(leases.values())))
    told = what_if(served, smaller, tmp_path, "--since", "2026-03-01T12:00:00Z")
    assert told.code == OK
    assert "Would run out" in told.out


@pytest.mark.parametrize(
    ("changed", "words", "said"),
    [
        (('range = "2001:db8:1:1::/64"', 'range = "192.0.2.0/33"'), ["--since", "1"], "$.pool[0].range"),
        (('range = "2001:db8:1:1::/64"', 'range = "2001:db8:9::/64"'), ["--since", "1"], "not inside a prefix"),
        ((NAME, "another"), ["--since", "1000"], "a plan cannot rename it"),
        (("", ""), ["--since", "whenever"], "expected a position such as 12 or 12.3"),
        (("", ""), [], "--since"),
    ],
)
def test_what_is_wrong_is_said(
    served: Served, tmp_path: Path, changed: tuple[str, str], words: list[str], said: str
) -> None:
    done = what_if(served, PLAN.replace(*changed), tmp_path, *words)
    assert (done.code, done.out) == (USAGE, "")
    assert said in done.err


def test_who_is_reserved_for_is_known_as_of_then(served: Served, tmp_path: Path) -> None:
    reserving = PLAN + '\n[[reservation]]\naddress = "2001:db8:1:1::77"\nnode = "nobody"\n'
    done = what_if(served, reserving, tmp_path, "--since", "1000")
    assert (done.code, done.out) == (USAGE, "")
    assert "no nodes were named 'nobody' then" in done.err
