"""The nodes for Ansible and Prometheus, over REST and as commands."""

from __future__ import annotations

import json
import re
import subprocess
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from dnms.api.discovery import Machine, inventory
from dnms.disk.site import Site
from dnms.events.node import NodeIdentified
from dnms.events.recorded import Personal
from dnms.projections.nodes.queries import NodeRow
from dnms.projections.text import instant
from tests.system.cli.conftest import ALPHA, BETA, DNMS, NOON, PATIENCE, TWIN, Served, dnms, write

PHONE = bytes([0xD]) * 16


def test_ansible_has_every_node(served: Served) -> None:
    done = dnms("inventory", "ansible", "--list", environment=served.environment)
    assert done.code == 0, done.err
    found = json.loads(done.out)
    beta, twin = f"beta-{BETA.hex()[:8]}", f"beta-{TWIN.hex()[:8]}"
    assert found["subnet_office"]["hosts"] == ["alpha", beta]
    assert found["ungrouped"]["hosts"] == [twin]
    assert found["all"]["children"] == ["subnet_office", "ungrouped"]
    assert found["_meta"]["hostvars"]["alpha"] == {
        "ansible_host": "2001:db8:1:1::a",  # it said that this one works
        "dnms_addresses": ["2001:db8:1:1::a", "2001:db8:1:1::5"],
        "dnms_client": ALPHA.hex(),
        "dnms_session": "open",
        "dnms_subnet": "office",
    }
    one = dnms("inventory", "ansible", "--host", "alpha", environment=served.environment)
    assert json.loads(one.out) == found["_meta"]["hostvars"]["alpha"]
    assert json.loads(dnms("inventory", "ansible", "--host", "nobody", environment=served.environment).out) == {}


def test_as_a_script_it_is_what_ansible_calls(served: Served, tmp_path: Path) -> None:
    script = tmp_path / "dnms-inventory"
    script.write_text(f'#!/bin/sh\nexec {DNMS} inventory ansible "$@"\n')
    script.chmod(0o755)
    environment = {**served.environment, "PATH": "/usr/bin:/bin"}
    listed = subprocess.run([script, "--list"], env=environment, capture_output=True, timeout=PATIENCE, check=True)
    assert "hostvars" in json.loads(listed.stdout)["_meta"]


def test_prometheus_has_every_node_with_an_address(served: Served) -> None:
    headers = {"Authorization": f"Bearer {Site.load(served.directory).api_token}"}
    url = f"{served.api}/api/v1/discovery/prometheus"
    answer = httpx.get(url, headers=headers, timeout=PATIENCE, trust_env=False)
    assert answer.headers["content-type"] == "application/json"
    assert int(answer.headers["dnms-position"]) > 0
    [alpha] = answer.json()
    assert alpha == {
        "targets": ["[2001:db8:1:1::a]:9100"],
        "labels": {
            "__meta_dnms_name": "alpha",
            "__meta_dnms_client": ALPHA.hex(),
            "__meta_dnms_subnet": "office",
            "__meta_dnms_session": "open",
            "__meta_dnms_agent": "east",
        },
    }
    done = dnms(
        "inventory", "prometheus", "--port", "9", "--session", "open", "-o", "json", environment=served.environment
    )
    assert json.loads(done.out)[0]["targets"] == ["[2001:db8:1:1::a]:9"]


@pytest.mark.parametrize("words", [("--group", "sales"), ("--subnet", "hall")])
def test_what_the_plan_does_not_have_is_a_mistake(served: Served, words: tuple[str, str]) -> None:
    """And not an empty list, by which Prometheus would look at nothing."""
    for program in ("ansible", "prometheus"):
        done = dnms("inventory", program, *words, "-o", "json", environment=served.environment)
        assert (done.code, done.out) == (2, "")
        assert f"the plan has no {words[0][2:]} {words[1]!r}" in done.err
    assert (
        json.loads(dnms("inventory", "prometheus", "--group", "voip", "-o", "json", environment=served.environment).out)
        == []
    )


def test_people_are_shown_a_table(served: Served) -> None:
    done = dnms("inventory", "ansible", environment=served.environment)
    assert re.search(r"^ ?alpha +2001:db8:1:1::a +subnet_office", done.out, re.MULTILINE), done.out
    done = dnms("inventory", "prometheus", environment=served.environment)
    assert re.search(r"^ ?\[2001:db8:1:1::a\]:9100 +name alpha, client", done.out, re.MULTILINE), done.out


def test_a_node_is_in_the_group_of_the_plan(served: Served) -> None:
    known = NodeIdentified(client=PHONE, duid=Personal(PHONE), name=Personal("phone-7"), kernel="6.1")
    write(served, [("node.0d", NOON, (known,))])
    found: dict[str, Any] = {}
    deadline = time.monotonic() + PATIENCE
    while "group_voip" not in found:
        assert time.monotonic() < deadline, found
        found = json.loads(dnms("inventory", "ansible", "--list", environment=served.environment).out)
    assert found["group_voip"]["hosts"] == ["phone-7"]
    assert found["_meta"]["hostvars"]["phone-7"]["dnms_group"] == "voip"
    only = json.loads(dnms("inventory", "ansible", "--list", "--group", "voip", environment=served.environment).out)
    assert list(only["_meta"]["hostvars"]) == ["phone-7"]


def machine(name: str | None, client: bytes = ALPHA, group: str | None = None) -> Machine:
    row = dict.fromkeys(NodeRow.__struct_fields__, None)
    row |= {"client": client.hex(), "name": name, "subnet": "", "session": "none", "first_seen": instant(0)}
    return Machine(NodeRow(**row), group, [])  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["{{ lookup('pipe', 'id') }}", "a b", "-x", "a\nb", "é", "", None, "x" * 300])
def test_a_name_that_a_machine_made_up_is_never_evaluated(name: str | None) -> None:
    assert list(inventory([machine(name)])["_meta"]["hostvars"]) == [ALPHA.hex()]


def test_groups_have_names_that_ansible_takes() -> None:
    found: dict[str, Any] = inventory([machine("phone-1", ALPHA, "1st-floor"), machine("phone-2", BETA, "all")])
    assert found["group_1st_floor"]["hosts"] == ["phone-1"]
    assert found["group_all"]["hosts"] == ["phone-2"]
    assert found["all"] == {"children": ["group_1st_floor", "group_all", "ungrouped"]}
