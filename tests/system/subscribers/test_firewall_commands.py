"""`dnms firewall show` and `diff`, beside a subscriber that runs on a site that is served."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from dnms.cli.exits import MACHINE, NO, OK, USAGE
from tests.netns.subscribers.conftest import Machine
from tests.system.cli.conftest import NAME, PLAN, Served, dnms, serving
from tests.system.subscribers.conftest import subscribed, until
from tests.system.subscribers.test_run import lease

RULE = """
[[rule]]
name = "calls"
direction = "ingress"
from = ["group:voip", "2001:db8:f::/48"]
to = "group:voip"
protocol = "udp"
ports = ["5060", "10000-20000"]
"""

OTHERS = """
table ip6 strict {
    chain forward {
        type filter hook forward priority 5; policy drop;
    }
}
table inet docker {
    chain forward {
        type filter hook forward priority 5; policy accept;
        jump isolated
    }
    chain isolated {
        tcp dport 25 reject
    }
    chain input {
        type filter hook input priority 5; policy drop;
    }
}
"""


@pytest.fixture
def site(tmp_path: Path) -> Path:
    directory = tmp_path / "site"
    assert dnms("init", NAME, "--site", directory).code == OK
    return directory


def applied(served: Served, text: str) -> None:
    plan = served.directory.with_name("plan.toml")
    plan.write_text(text)
    done = dnms("plan", "apply", plan, environment=served.environment)
    assert done.code == OK, done.err


def shown(code: int = OK) -> tuple[dict[str, Any], str]:
    done = dnms("firewall", "show", "-o", "json")
    assert done.code == code, done.err
    return (json.loads(done.out) if done.out else {}), done.err


def differences(served: Served, site: Path, code: int) -> tuple[dict[str, Any], str]:
    done = dnms("firewall", "diff", "--site", site, "--bus", served.bus, "-o", "json")
    assert done.code == code, done.err
    return (json.loads(done.out) if done.out else {}), done.err


def test_what_is_there_is_shown_and_what_differs_from_the_log(machine: Machine, site: Path) -> None:
    def work() -> None:
        assert "there is no table of DNMS here" in shown(NO)[1]
        with serving(site) as served:
            assert "the log has no plan" in differences(served, site, NO)[1]
            applied(served, PLAN + RULE)
            members = lease(served, members=3)
            found, _ = differences(served, site, NO)
            missing = {each["what"] for each in found["differences"] if each["missing"]}
            assert {f"{member} in voip-6" for member in members} < missing
            assert {"rule 'calls' in dnms_rule_calls", "chain dnms_in_voip"} < missing
            causes = {each["what"]: each["position"] for each in found["differences"]}
            assert len({causes[f"{member} in voip-6"] for member in members}) == 3  # each was a commit
            assert machine.listed() == []
            with subscribed(site, served.bus) as subscriber:
                subscriber.settled()
                until(lambda: machine.sets().get("voip-6") == members)
                assert "the kernel is as the log says" in differences(served, site, OK)[1]
                answer, said = shown()
                assert said == ""
                [rule] = [each for each in answer["rules"] if each["planned"]]
                assert (rule["rule"], rule["direction"], rule["group"]) == ("calls", "ingress", "voip")
                assert rule["peers"] == ["2001:db8:f::/48", "group:voip"]
                assert rule["match"] == "udp dport { 5060, 10000-20000 }"
                assert (rule["verdict"], rule["packets"], rule["table"]) == ("accept", 0, "inet")
                assert answer["groups"] == [{"table": "inet", "group": "voip", "ipv4": 0, "ipv6": 3, "prefixes": 0}]
                assert answer["input"] == "none"
                assert subscriber.end() == OK
            machine.nft("add element inet dnms voip-4 { 198.51.100.1 }; flush chain inet dnms dnms_in_voip")
            found, _ = differences(served, site, NO)
            assert [each for each in found["differences"] if not each["missing"]] == [
                {"what": "198.51.100.1 in voip-4", "missing": False, "position": 0}
            ]
            assert {each["what"] for each in found["differences"] if each["missing"]} == {
                "rule 'group:voip' in dnms_in_voip",
                "rule '2001:db8:f::/48' in dnms_in_voip",
                "rule 'nothing else to voip' in dnms_in_voip",
            }
            table = dnms("firewall", "diff", "--site", site, "--bus", served.bus)
            assert table.code == NO
            assert "198.51.100.1 in voip-4" in table.out

    machine.call(work)


def test_other_tables_that_would_drop_all_the_same_are_named(machine: Machine, site: Path) -> None:
    def work() -> None:
        with serving(site) as served:
            applied(served, PLAN + RULE)
            with subscribed(site, served.bus) as subscriber:
                subscriber.settled()
                until(lambda: "dnms_forward" in str(machine.listed()))
                machine.nft(OTHERS)
                said = shown()[1].splitlines()
                assert subscriber.end() == OK
        assert [line.partition(":")[2].strip() for line in said] == [
            "chain forward of table inet docker (hook forward) has rules that drop: "
            "what is accepted here falls there all the same",
            "chain forward of table ip6 strict (hook forward) drops what it does not accept: "
            "what is accepted here falls there all the same",
        ]

    machine.call(work)


def test_what_is_wrong_is_said(site: Path) -> None:
    assert dnms("firewall", "diff", "--site", site, "--interface", "eth0").code == USAGE
    assert dnms("firewall", "diff", "--site", site.with_name("none")).code == MACHINE
    config = site.with_name("firewall.toml")
    config.write_text("[firewall]\nbrige = true\n")
    done = dnms("firewall", "diff", "--site", site, "--config", config)
    assert done.code == USAGE
    assert "unknown field `brige`; known are guard, bridge, input, confirm" in done.err
