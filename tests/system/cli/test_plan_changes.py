"""A plan that is compared, applied where it was compared, and written to a file, as an operator does it."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dnms.cli.exits import MACHINE, OK, REFUSED, USAGE
from tests.system.cli.conftest import NAME, PLAN, Done, Served, dnms, history, serving, write


@pytest.fixture
def changing(tmp_path: Path, plan: Path) -> Iterator[Served]:
    """A site of its own, since its plan is changed here, with two leases of a node `alpha`."""
    site = tmp_path / "site"
    assert dnms("init", NAME, "--site", site).code == OK
    with serving(site) as served:
        assert dnms("plan", "apply", plan, environment=served.environment).code == OK
        write(served, history())
        yield served


class Operator:
    """Runs `dnms plan` with a plan that is PLAN with changes."""

    def __init__(self, served: Served, folder: Path) -> None:
        self.served = served
        self.file = folder / "next.toml"

    def plan(self, *words: str | Path) -> Done:
        return dnms("plan", *words, environment=self.served.environment)

    def diff(self, *changes: tuple[str, str]) -> Any:
        text = PLAN
        for change in changes:
            assert change[0] in text
            text = text.replace(*change)
        self.file.write_text(text)
        done = self.plan("diff", self.file, "-o", "json")
        assert (done.code, done.err) == (OK, ""), done.err
        return json.loads(done.out)


def test_a_diff_says_what_would_become_of_leases_and_changes_nothing(changing: Served, tmp_path: Path) -> None:
    operator = Operator(changing, tmp_path)
    before = operator.plan("show").out
    smaller = operator.diff(('range = "2001:db8:1:1::/64"', 'range = "2001:db8:1:1::8/125"'))
    assert [(one["part"], one["name"], one["fields"]) for one in smaller["changes"]] == [
        ("pool", "office-v6", {"range": ["2001:db8:1:1::/64", "2001:db8:1:1::8/125"]})
    ]
    [office] = smaller["subnets"]
    assert (office["leases"], office["withdrawn"], office["moved"], office["without"]) == (2, 0, 1, 0)
    words = operator.plan("diff", operator.file).out
    assert "range: 2001:db8:1:1::/64 → 2001:db8:1:1::8/125" in words
    assert "subnet office: 1 node would move to another address, of another pool or group; both can be used" in words
    assert f"--if-position {smaller['position']}" in words

    tiny = operator.diff(('range = "2001:db8:1:1::/64"', 'range = "2001:db8:1:1::a-2001:db8:1:1::a"'))
    [pool] = tiny["subnets"][0]["pools"]
    assert (pool["size"], pool["held_before"], pool["too_small"], pool["runs_out"]) == (1, 2, True, True)
    words = operator.plan("diff", operator.file).out
    assert "pool office-v6 would have room for 1, fewer than the 2 held." in words
    assert "pool office-v6 would run out: 1 of 1 held." in words
    assert operator.plan("show").out == before


def test_a_diff_says_who_moves_because_of_a_group(changing: Served, tmp_path: Path) -> None:
    operator = Operator(changing, tmp_path)
    [office] = operator.diff(('"phone-*"', '"alpha"'))["subnets"]
    assert (office["withdrawn"], office["moved"]) == (0, 1)
    assert "1 node would move to another address, of another pool or group" in operator.plan("diff", operator.file).out
    assert operator.diff(('"phone-*"', '"nobody"'))["subnets"] == []
    assert "No lease would be touched." in operator.plan("diff", operator.file).out


def test_a_plan_is_applied_only_where_it_was_compared(changing: Served, tmp_path: Path) -> None:
    operator = Operator(changing, tmp_path)
    position = operator.diff(('"phone-*"', '"mine-*"'))["position"]
    other = tmp_path / "other.toml"
    other.write_text(PLAN.replace('"phone-*"', '"theirs-*"'))
    assert operator.plan("apply", other, "--if-position", str(position)).code == OK
    late = operator.plan("apply", operator.file, "--if-position", str(position))
    assert (late.code, late.out) == (REFUSED, "")
    assert "nothing was applied: the plan is at position" in late.err
    assert f"`dnms plan diff {operator.file}`" in late.err
    assert "theirs-*" in operator.plan("show").out
    again = json.loads(operator.plan("diff", operator.file, "-o", "json").out)["position"]
    assert operator.plan("apply", operator.file, "--if-position", str(again)).code == OK
    assert operator.plan("diff", operator.file).out.startswith("The plan is so already")


def test_a_plan_is_exported_as_it_can_be_applied(changing: Served, tmp_path: Path) -> None:
    operator = Operator(changing, tmp_path)
    file = tmp_path / "exported.toml"
    done = operator.plan("export", file, "-o", "json")
    assert (done.code, json.loads(done.out)["file"]) == (OK, str(file))
    assert f"# The plan at position {json.loads(done.out)['position']}.\n" in file.read_text()
    shown = json.loads(operator.plan("show", "-o", "json").out)
    assert tomllib.loads(file.read_text())["pool"] == shown["pool"]
    assert json.loads(operator.plan("apply", file, "-o", "json").out)["events"] == []
    assert operator.plan("export").out == operator.plan("show").out
    assert sorted(each.name for each in tmp_path.iterdir() if "exported" in each.name) == ["exported.toml"]
    nowhere = operator.plan("export", tmp_path / "nowhere" / "plan.toml")
    assert (nowhere.code, nowhere.out) == (MACHINE, "")
    assert "cannot write" in nowhere.err


def test_a_diff_of_what_is_no_plan_says_where(changing: Served, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.toml"
    wrong.write_text(PLAN.replace("0x5a1e", "0xfdff"))
    done = dnms("plan", "diff", wrong, environment=changing.environment)
    assert (done.code, done.out) == (USAGE, "")
    assert "$.group[0].number ('voip'): " in done.err


def test_what_members_of_a_group_are_told_is_compared_applied_and_shown(changing: Served, tmp_path: Path) -> None:
    operator = Operator(changing, tmp_path)
    of_group = '[[subnet.group]]\nname = "voip"\ngateways = ["fe80::5"]\nroutes = []\n[[pool]]'
    diff = operator.diff(("[[pool]]", of_group), ("number = 0x5a1e", 'number = 0x5a1e\ndns = ["2001:db8::53"]'))
    assert [one["part"] for one in diff["changes"]] == ["group", "subnet"]
    assert [(one["subnet"], one["withdrawn"], one["moved"]) for one in diff["subnets"]] == [("office", 0, 0)]
    words = operator.plan("diff", operator.file).out
    assert "dns: - → 2001:db8::53" in words
    assert "group: - → for voip gateways fe80::5, routes -" in words
    assert operator.plan("apply", operator.file, "--if-position", str(diff["position"])).code == OK
    shown = tomllib.loads(operator.plan("show").out)
    assert shown["subnet"][0]["group"] == [{"name": "voip", "gateways": ["fe80::5"], "routes": []}]
    assert json.loads(operator.plan("apply", operator.file, "-o", "json").out)["events"] == []
    operator.file.write_text(operator.file.read_text().replace("fe80::5", "192.0.3.1"))
    refused = operator.plan("apply", operator.file)
    assert refused.code == USAGE
    assert "$.subnet[0].group[0].gateways[0] (" in refused.err
