"""A client of Kea has its addresses, and keeps them when DNMS takes the link over."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any

from dnms.cli.exits import NO, OK
from tests.netns.migration.machine import DNMS, LINK, Machine, Watched, addresses_of, until
from tests.netns.programs import dhcpcd

FOUR: dict[str, Any] = {
    "valid-lifetime": 120,
    "renew-timer": 4,
    "rebind-timer": 6,
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
    "preferred-lifetime": 8,
    "valid-lifetime": 120,
    "renew-timer": 4,
    "rebind-timer": 6,
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


def test_a_client_keeps_what_it_had(machine: Machine, tmp_path: Path) -> None:
    client = machine.client("client")
    root = tmp_path / "client"
    (root / "etc").mkdir(parents=True)
    (root / "etc" / "dhcpcd.conf").write_text(DHCPCD)
    plan, leases = tmp_path / "plan.toml", [tmp_path / "leases4.csv", tmp_path / "leases6.csv"]
    with ExitStack() as stack:
        with machine.kea(4, FOUR) as four, machine.kea(6, SIX) as six:
            stack.enter_context(dhcpcd(client, root, "eth0"))
            assert machine.dnms("init", "home").code == OK
            stack.enter_context(machine.running(DNMS, "serve", says="API", log="serve.log"))
            made = machine.dnms("import", "kea", four, six, "--plan", plan)
            assert made.code == NO  # one option is left out
            assert f"{four}:" in made.out
            assert "option tftp-server-name" in made.out
            assert machine.dnms("plan", "check", plan).code == OK
            assert machine.dnms("plan", "apply", plan).code == OK
            until(lambda: len(addresses_of(client)) == 2)
            had = sorted(addresses_of(client))
            watched = Watched(client, tmp_path / "watched")
            stack.callback(watched.close)
            words = ("import", "kea", four, six, "--leases", *leases)
            until(lambda: machine.answered(*words)["leases"] == {"written": 3})
        assert machine.answered(*words, "--write")["leases"] == {"written": 3}
        agent = ("--interface", LINK, "--subnet", LINK, "--dhcpv4", "--dhcpv6", "--state", tmp_path / "agent")
        stack.enter_context(machine.running(DNMS, "subnet-agent", *agent, says="serving", log="agent.log"))
        until(lambda: {each["fields"]["address"] for each in machine.events("address.renewed")} == set(had))
        until(lambda: machine.events("prefix.renewed"))
        assert watched.lost(had) == []
        assert sorted(addresses_of(client)) == had
        rows = {each["address"]: each["node"] for each in machine.answered("address", "list")}
        assert rows == dict.fromkeys(had, "pc-1")
        assert {each["fields"]["origin"] for each in machine.events("address.allocated")} == {"kea"}
        assert machine.answered(*words, "--write")["leases"] == {"known": 3}
        assert len(machine.events("address.allocated")) == 2
