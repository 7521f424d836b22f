"""Reservations, releases and moves, as an operator does them, in a ledger in which an agent has written too."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dnms.cli.exits import NO, OK, REFUSED, USAGE
from dnms.domain.identity import iaid_of
from tests.system.cli.conftest import ALPHA, BETA, NAME, Done, Served, dnms, history, serving, write

DUID = "00:04:11:22:33:44:55:66:77:88:99:aa:bb:cc:dd:ee:ff:00"


@pytest.fixture(scope="module")
def changing(tmp_path_factory: pytest.TempPathFactory, plan: Path) -> Iterator[Served]:
    """A site of its own, where `alpha` has 2001:db8:1:1::a and ::5, on the interface with IAID 1."""
    site = tmp_path_factory.mktemp("addresses") / "site"
    assert dnms("init", NAME, "--site", site).code == OK
    with serving(site) as served:
        assert dnms("plan", "apply", plan, environment=served.environment).code == OK
        write(served, history())
        yield served


def run(served: Served, *words: str) -> Done:
    return dnms(*words, environment=served.environment)


def asked(served: Served, *words: str) -> Any:
    done = run(served, *words, "-o", "json")
    assert (done.code, done.err) == (OK, ""), done.err
    return json.loads(done.out)


def verified(served: Served) -> bool:
    return dnms("view", "verify", "--bus", served.bus, environment=served.environment).code == OK


def listed(served: Served) -> dict[str, tuple[str, str, bool]]:
    return {one["address"]: (one["state"], one["client"], one["reserved"]) for one in asked(served, "address", "list")}


def test_an_address_is_reserved_for_a_node_and_released(changing: Served) -> None:
    done = asked(changing, "address", "reserve", "alpha", "2001:db8:1:1::77", "--interface", "eth1")
    assert [event["name"] for event in done["events"]] == ["address.held"]
    assert done["events"][0]["fields"]["iaid"] == iaid_of("eth1")
    assert (done["subnet"], done["client"], done["folded"]) == ("office", ALPHA.hex(), True)
    assert listed(changing)["2001:db8:1:1::77"] == ("reserved", ALPHA.hex(), True)
    assert "reserved" in run(changing, "address", "list").out
    [about] = asked(changing, "address", "show", "2001:db8:1:1::77")["leases"]
    assert (about["pool"], about["node"], about["valid_until"]) == ("office-v6", "alpha", None)
    with_data = dnms("address", "show", "2001:db8:1:1::77", "--data", changing.directory, "-o", "json")
    assert json.loads(with_data.out)["leases"] == [about]
    shown = {one["address"]: one for one in asked(changing, "node", "show", "alpha")["addresses"]}
    assert (shown["2001:db8:1:1::77"]["origin"], shown["2001:db8:1:1::77"]["leased"]) == ("reserved", False)
    again = asked(changing, "address", "reserve", "alpha", "2001:db8:1:1::77", "--interface", "eth1")
    assert again["events"] == []
    other = run(changing, "address", "reserve", "00:03:00:01:02:00:00:00:00:01", "2001:db8:1:1::77")
    assert (other.code, other.out) == (REFUSED, "")
    assert "the address is kept for another client" in other.err
    assert verified(changing)
    released = run(changing, "address", "release", "2001:db8:1:1::77")
    assert (released.code, released.err) == (OK, "")
    assert "the reservation ended" in released.out
    assert "2001:db8:1:1::77" not in listed(changing)
    assert run(changing, "address", "release", "2001:db8:1:1::77").code == NO
    assert verified(changing)


def test_an_address_is_reserved_for_a_duid_that_nobody_has_seen(changing: Served) -> None:
    done = asked(changing, "address", "reserve", DUID, "2001:db8:1:1::78")
    assert listed(changing)["2001:db8:1:1::78"] == ("reserved", done["client"], True)
    assert asked(changing, "address", "reserve", DUID.replace(":", ""), "2001:db8:1:1::78")["events"] == []
    assert asked(changing, "address", "release", "2001:db8:1:1::78")["client"] == done["client"]


def test_who_has_an_address_is_moved(changing: Served) -> None:
    done = asked(changing, "address", "move", "2001:db8:1:1::a", "--to", "2001:db8:1:1::b")
    assert [event["name"] for event in done["events"]] == ["address.deprecated", "address.allocated"]
    assert listed(changing)["2001:db8:1:1::b"] == ("held", ALPHA.hex(), False)
    assert listed(changing)["2001:db8:1:1::a"][0] == "held"  # until it is drained
    taken = run(changing, "address", "move", "2001:db8:1:1::b", "--to", "2001:db8:1:1::a")
    assert taken.code == REFUSED
    done = asked(changing, "address", "move", "2001:db8:1:1::b")
    [given] = [event["fields"]["address"] for event in done["events"] if event["name"] == "address.allocated"]
    assert listed(changing)[given] == ("held", ALPHA.hex(), False)
    ended = asked(changing, "address", "release", given, "--lease")
    assert [event["name"] for event in ended["events"]] == ["address.withdrawn"]
    assert given not in listed(changing)
    assert verified(changing)


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ("address reserve nobody 2001:db8:1:1::9", NO, "it is no DUID"),
        ("address reserve beta 2001:db8:1:1::9", USAGE, "2 nodes are called 'beta'"),
        (f"address reserve {BETA.hex()} 2001:db8:1:1::5", REFUSED, "another client has this address"),
        ("address reserve alpha 2001:db8:9::1", NO, "no subnet of the plan has 2001:db8:9::1"),
        ("address reserve alpha 2001:db8:1:1::9 --subnet lab", USAGE, "no prefix of a subnet 'lab'"),
        ("address reserve alpha 192.0.2.1", REFUSED, "no pool of the subnet has this address"),
        ("address reserve alpha 2001:db8:1:1::", REFUSED, "nobody may be given this address"),
        ("address move 2001:db8:1:1::99", NO, "nobody has 2001:db8:1:1::99 now"),
        ("address move 2001:db8:1:1::5 --to 2001:db8:1:1:5a1e::1", REFUSED, "of the client's group"),
        ("address move 2001:db8:1:1::5 --to 192.0.2.7", REFUSED, "no pool of the subnet for IPv6"),
        ("address release 2001:db8:1:1::99 --lease", NO, "neither reserved nor leased"),
    ],
)
def test_what_cannot_be_is_one_line(changing: Served, words: str, code: int, said: str) -> None:
    done = run(changing, *words.split())
    assert (done.code, done.out) == (code, ""), done.err
    assert said in done.err
    assert done.err.startswith("dnms: ")
    assert done.err.count("\n") == 1


def test_the_plan_reserves_addresses_by_name_and_by_duid(changing: Served, plan: Path, tmp_path: Path) -> None:
    file = tmp_path / "plan.toml"
    reservations = (
        '[[reservation]]\naddress = "2001:db8:1:1::aa"\nnode = "alpha"\ninterface = "eth7"\n'
        f'[[reservation]]\naddress = "2001:db8:1:1::bb"\nnode = "{DUID}"\n'
        '[[reservation]]\naddress = "2001:db8:1:1::cc"\nhardware = "02:00:5e:10:00:09"\n'
        f'[[reservation]]\naddress = "2001:db8:1:1::dd"\nduid = "{DUID}"\n'
    )
    file.write_text(plan.read_text() + reservations)
    before = asked(changing, "plan", "show")
    diff = run(changing, "plan", "diff", str(file))
    assert "2001:db8:1:1::aa in office" in diff.out
    applied = asked(changing, "plan", "apply", str(file))
    assert [event["name"] for event in applied["events"]] == ["reservation.defined"] * 4
    # No agent is there to adopt it; who asks for a change of the ledger brings the plan into it first.
    refused = run(changing, "address", "release", "2001:db8:1:1::aa")
    assert (refused.code, refused.out) == (REFUSED, "")
    assert "the plan reserves the address; take it out there" in refused.err
    assert listed(changing)["2001:db8:1:1::aa"] == ("reserved", ALPHA.hex(), True)
    exported = tmp_path / "exported.toml"
    assert run(changing, "plan", "export", str(exported)).code == OK
    assert f'node = "{ALPHA.hex()}"' in exported.read_text()
    assert asked(changing, "plan", "apply", str(exported))["events"] == []
    file.write_text(
        plan.read_text() + reservations.replace('"alpha"', '"beta"').replace(f'node = "{DUID}"', 'node = "nobody"')
    )
    wrong = run(changing, "plan", "apply", str(file))
    assert (wrong.code, wrong.out) == (USAGE, "")
    assert "2 nodes are called 'beta'" in wrong.err
    assert asked(changing, "plan", "apply", str(plan))["events"] != []
    assert run(changing, "address", "release", "2001:db8:1:1::aa").code == NO
    assert "2001:db8:1:1::bb" not in listed(changing)
    assert asked(changing, "plan", "show") == before
    assert verified(changing)
