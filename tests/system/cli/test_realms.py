"""The same 10.0.0.0/8 twice, in two realms: kept apart from the plan over the ledgers to every answer."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from dnms.cli.exits import OK, USAGE
from tests.system.cli.conftest import NAME, Served, dnms, serving
from tests.system.cli.test_address_changes import asked, run

PLAN = f"""
[site]
name = "{NAME}"
""" + "".join(
    f"""
[[realm]]
name = "{realm}"
[[subnet]]
name = "lan-{realm}"
realm = "{realm}"
prefixes = ["10.0.0.0/8"]
[[pool]]
name = "pool-{realm}"
subnet = "lan-{realm}"
range = "10.0.0.0/8"
strategy = "sequential"
"""
    for realm in ("east", "west")
)
ONE, OTHER = (f"00:04:{'00:' * 15}{last}" for last in ("01", "02"))


@pytest.fixture(scope="module")
def twice(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    directory = tmp_path_factory.mktemp("realms")
    plan = directory / "plan.toml"
    plan.write_text(PLAN)
    assert dnms("init", NAME, "--site", directory / "site").code == OK
    with serving(directory / "site") as served:
        assert dnms("plan", "apply", plan, environment=served.environment).code == OK
        yield served


def test_an_address_is_in_both_and_each_is_another_ones(twice: Served) -> None:
    for realm, duid in (("east", ONE), ("west", OTHER)):
        asked(twice, "address", "reserve", duid, "10.0.0.9", "--subnet", f"lan-{realm}")
    listed = {(one["subnet"], one["client"]) for one in asked(twice, "address", "list")}
    assert len(listed) == 2
    about = asked(twice, "address", "show", "10.0.0.9")["leases"]
    assert {(one["subnet"], one["client"]) for one in about} == listed
    assert {one["pool"] for one in about} == {"pool-east", "pool-west"}
    for subnet, client in listed:
        [one] = asked(twice, "address", "list", "--subnet", subnet)
        assert (one["address"], one["client"]) == ("10.0.0.9", client)
    for realm in ("east", "west"):
        pool = asked(twice, "pool", "show", f"pool-{realm}")
        assert (pool["subnet"], pool["reserved"], pool["free"]) == (f"lan-{realm}", 1, (1 << 24) - 3)


def test_which_one_is_meant_has_to_be_said(twice: Served) -> None:
    ambiguous = run(twice, "address", "reserve", ONE, "10.0.0.10")
    assert (ambiguous.code, ambiguous.out) == (USAGE, "")
    assert "lan-east" in ambiguous.err
    assert "lan-west" in ambiguous.err


def test_the_views_are_the_log(twice: Served) -> None:
    done = asked(twice, "address", "reserve", ONE, "10.0.0.11", "--subnet", "lan-west")
    asked(twice, "address", "reserve", OTHER, "10.0.0.11", "--subnet", "lan-east")
    assert asked(twice, "address", "release", "10.0.0.11", "--subnet", "lan-west")["client"] == done["client"]
    [left] = asked(twice, "address", "show", "10.0.0.11")["leases"]
    assert left["subnet"] == "lan-east"
    assert run(twice, "view", "verify", "--bus", twice.bus).code == OK
