"""A client of Kea has its addresses, and keeps them when DNMS takes the link over."""

from __future__ import annotations

import json
import re
import signal
import subprocess
from contextlib import ExitStack
from operator import gt
from pathlib import Path
from typing import Any

from dnms.cli.exits import NO, OK
from tests.netns.migration.machine import DNMS, LINK, Machine, Watched, addresses_of, until
from tests.netns.programs import dhcpcd

FOUR: dict[str, Any] = {
    "valid-lifetime": 120,
    "renew-timer": 15,
    "rebind-timer": 24,
    "option-data": [{"name": "domain-name-servers", "data": "192.0.2.53"}, {"name": "tftp-server-name", "data": "x"}],
    "subnet4": [
        {
            "id": 1,
            "subnet": "192.0.2.0/24",
            "interface": LINK,
            "pools": [{"pool": "192.0.2.128 - 192.0.2.191"}],
            "option-data": [{"name": "routers", "data": "192.0.2.1"}],
        }
    ],
}
SIX: dict[str, Any] = {
    "preferred-lifetime": 30,
    "valid-lifetime": 120,
    "renew-timer": 15,
    "rebind-timer": 24,
    "subnet6": [
        {
            "id": 1,
            "subnet": "2001:db8:5::/64",
            "interface": LINK,
            "pools": [{"pool": "2001:db8:5::100-2001:db8:5::1ff"}],
            "pd-pools": [{"prefix": "2001:db8:8::", "prefix-len": 48, "delegated-len": 56}],
        }
    ],
}
DHCPCD = """
duid ll
noipv6rs
noarp
hostname pc-1
option domain_name_servers, domain_search
interface eth0
  dhcp
  ia_na 1
  ia_pd 2/::/56 -
"""


def test_a_link_goes_over_from_kea_to_dnms(machine: Machine, tmp_path: Path) -> None:
    client = machine.client("client")
    root = tmp_path / "client"
    (root / "etc").mkdir(parents=True)
    (root / "etc" / "dhcpcd.conf").write_text(DHCPCD)
    plan, leases = tmp_path / "plan.toml", [tmp_path / "leases4.csv", tmp_path / "leases6.csv"]
    with ExitStack() as stack:
        with machine.kea(4, FOUR) as four, machine.kea(6, SIX) as six:
            asking = stack.enter_context(dhcpcd(client, root, "eth0"))
            assert machine.dnms("init", "home").code == OK
            stack.enter_context(machine.running(DNMS, "serve", says="API", log="serve.log"))
            made = machine.dnms("import", "kea", four, six, "--plan", plan)
            assert made.code == NO  # one option is left out
            assert f"{four}:" in made.out
            assert "option tftp-server-name" in made.out
            assert machine.dnms("plan", "apply", plan).code == OK
            until(lambda: len(addresses_of(client)) == 2)
            had = sorted(addresses_of(client))
            watched = Watched(client, tmp_path / "watched")
            stack.callback(watched.close)
            words: list[str | Path] = ["import", "kea", four, six, "--leases", *leases]
            assert machine.answered(*words)["leases"] == {"written": 3}
            assert machine.answered(*words, "--write")["leases"] == {"written": 3}
            end = machine.answered("event", "list")
            it_agrees(machine, asking)
            assert machine.answered("event", "list") == end  # it has written nothing
            it_names_what_was_changed(machine, asking, plan)
        words.append("--write")
        assert machine.answered(*words)["leases"].keys() <= {"written", "known"}  # what was renewed there meanwhile
        agent = ("--interface", LINK, "--subnet", LINK, "--dhcpv4", "--dhcpv6", "--state", tmp_path / "agent")
        renewed = len(machine.events("prefix.renewed"))
        with machine.running(DNMS, "subnet-agent", *agent, says="serving", log="agent.log"):
            until(lambda: len(machine.events("prefix.renewed")) > renewed)
            until(lambda: all("agent/" in one for one in renewers(machine, had)))
            assert watched.lost(had) == []
            assert sorted(addresses_of(client)) == had
            rows = {each["address"]: each["node"] for each in machine.answered("address", "list")}
            assert rows == dict.fromkeys(had, "pc-1")
            given = machine.events("address.allocated")
            assert [each["fields"]["origin"] for each in given] == ["kea", "kea"]
            assert machine.answered(*words)["leases"] == {"known": 3}
        with machine.kea(4, FOUR), machine.kea(6, SIX):  # and back
            asking.send_signal(signal.SIGHUP)
            logs = [tmp_path / f"kea{kind}.log" for kind in (4, 6)]
            until(lambda: all(re.search("LEASE_(ALLOC|RENEW)", log.read_text()) for log in logs))
        assert watched.lost(had) == []
        assert sorted(addresses_of(client)) == had


def renewers(machine: Machine, addresses: list[str]) -> list[str]:
    """Who has renewed each last."""
    last = {each["fields"]["address"]: each["actor"] for each in machine.events("address.renewed")}
    return [last.get(address, "") for address in addresses]


def it_agrees(machine: Machine, asking: subprocess.Popen[bytes]) -> None:
    told, summary, code = listened(machine, asking, "agrees")
    assert (told, summary["differences"], code) == ([], {}, OK)
    assert summary["equal"] == summary["compared"] >= 3


def it_names_what_was_changed(machine: Machine, asking: subprocess.Popen[bytes], plan: Path) -> None:
    plan.write_text(plan.read_text().replace("192.0.2.53", "192.0.2.54"))
    assert machine.dnms("plan", "apply", plan).code == OK
    told, summary, code = listened(machine, asking, "differs")
    assert code == NO
    assert {(each["what"], each["of"], each["there"], each["here"]) for each in told} == {
        ("option", "6 (dns-servers)", "192.0.2.53", "192.0.2.54")
    }
    assert set(summary["differences"]) == {"option: 6 (dns-servers)"}


def listened(
    machine: Machine, asking: subprocess.Popen[bytes], name: str
) -> tuple[list[dict[str, Any]], dict[str, Any], int]:
    """The differences that a shadow tells while a client asks twice, its summary, and its exit code."""
    logs = [machine.path / f"kea{kind}.log" for kind in (4, 6)]

    def answers() -> list[int]:
        return [len(re.findall("LEASE_(ALLOC|RENEW)", log.read_text())) for log in logs]

    with machine.running(DNMS, "shadow", LINK, "--subnet", LINK, "-o", "json", says="listening", log=name) as process:
        for _ in range(2):
            before = answers()
            asking.send_signal(signal.SIGHUP)  # it rebinds
            until(lambda before=before: all(map(gt, answers(), before)))  # type: ignore[misc]
        process.send_signal(signal.SIGINT)
        code = process.wait(20)
    told = [json.loads(line) for line in (machine.path / name).read_text().splitlines() if line.startswith("{")]
    return told[:-1], told[-1]["summary"], code
