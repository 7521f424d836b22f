"""Nodes that are entered before they ever boot, one by one and from a file, and forgotten again."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dnms.bus import jetstream
from dnms.bus.committer import Committer
from dnms.cli.exits import INTERRUPTED, NO, OK, REFUSED, USAGE
from dnms.disk.site import Site
from dnms.domain.aggregate import Fold
from dnms.domain.identity import iaid_of
from dnms.domain.nodes import NodeShard
from dnms.events import subjects
from dnms.events.address import AddressAllocated
from dnms.events.node import NodeArrived, NodeEntered, NodeIdentified
from dnms.events.recorded import Personal
from dnms.events.requests import JoinNode
from tests.system.cli.conftest import (
    ALPHA,
    BETA,
    DNMS,
    HOUR,
    NAME,
    NOON,
    PATIENCE,
    PLAN,
    SHARED,
    Done,
    Served,
    dnms,
    history,
    serving,
    write,
)

BOTH = (
    PLAN
    + """
[[pool]]
name = "office-v4"
subnet = "office"
range = "192.0.2.0/28"

[[subnet]]
name = "lab"
prefixes = ["2001:db8:1:2::/64"]

[[pool]]
name = "lab-v6"
subnet = "lab"
range = "2001:db8:1:2::/64"
"""
)


FIXED = "2001:db8:1:1::77"
MAC = "02:00:5e:10:00:01"


def duid(number: int) -> str:
    return f"00:04:{number:032x}"


@pytest.fixture
def plan_of_both(tmp_path: Path) -> Path:
    file = tmp_path / "both.toml"
    file.write_text(BOTH)
    return file


@pytest.fixture
def entering(tmp_path: Path, plan_of_both: Path) -> Iterator[Served]:
    """A site with two subnets."""
    site = tmp_path / "site"
    assert dnms("init", NAME, "--site", site).code == OK
    with serving(site) as served:
        assert dnms("plan", "apply", plan_of_both, environment=served.environment).code == OK
        yield served


def run(served: Served, *words: str | Path) -> Done:
    return dnms(*words, environment=served.environment)


def asked(served: Served, *words: str | Path) -> Any:
    done = run(served, *words, "-o", "json")
    assert (done.code, done.err) == (OK, ""), done.err
    return json.loads(done.out)


def reserved(served: Served) -> dict[str, str]:
    return {one["address"]: one["node"] for one in asked(served, "address", "list") if one["state"] == "reserved"}


def verified(served: Served) -> bool:
    return dnms("view", "verify", "--bus", served.bus, environment=served.environment).code == OK


def test_a_node_is_entered_known_by_name_and_forgotten(entering: Served) -> None:
    entered = asked(entering, "node", "add", "printer", "--duid", duid(1), "--group", "voip")
    addresses = {one["address"]: one["subnet"] for one in entered["addresses"]}
    assert sorted(addresses.values()) == ["lab", "office", "office"]
    assert all(":5a1e:" in address for address in addresses if ":" in address)  # the group is a part of it
    assert reserved(entering) == dict.fromkeys(addresses, "printer")
    shown = asked(entering, "node", "show", "printer")["node"]
    assert (shown["ready"], shown["entered_group"], shown["session"]) == (True, "voip", "none")
    assert asked(entering, "node", "add", "printer", "--duid", duid(1), "--group", "voip") == entered
    otherwise = run(entering, "node", "add", "printer", "--duid", duid(1))
    assert (otherwise.code, otherwise.out) == (REFUSED, "")
    assert "forget it first" in otherwise.err
    assert next(iter(addresses)) in run(entering, "node", "add", "printer", "--duid", duid(1), "--group", "voip").out
    assert verified(entering)
    forgotten = asked(entering, "node", "forget", "printer")
    assert (set(forgotten["unheld"]), forgotten["withdrawn"]) == (set(addresses), [])
    assert reserved(entering) == {}
    assert run(entering, "node", "show", "printer").code == NO
    assert run(entering, "node", "forget", "printer").code == NO
    assert verified(entering)
    again = asked(entering, "node", "add", "printer", "--duid", duid(1), "--subnet", "lab")
    assert [one["subnet"] for one in again["addresses"]] == ["lab"]


def come(served: Served, number: int, name: str, *more: NodeEntered) -> bytes:
    """What an agent writes of a node that comes, and of what is its entry; its client id."""
    site = Site.load(served.directory)
    octets = bytes.fromhex(duid(number).replace(":", ""))
    client = site.client_id(octets)
    hardware = (Personal(bytes.fromhex(MAC.replace(":", ""))),)
    identified = NodeIdentified(client=client, duid=Personal(octets), name=Personal(name), hardware=hardware)
    write(served, [(f"node.{client[0]:02x}", NOON, (identified, NodeArrived(client=client, subnet="office"), *more))])
    return client


def test_a_node_is_entered_by_its_hardware_address_and_is_the_one_that_comes_with_it(entering: Served) -> None:
    entered = asked(entering, "node", "add", "label", "--mac", MAC)
    addresses = {one["address"] for one in entered["addresses"]}
    assert len(addresses) == 3
    assert reserved(entering) == dict.fromkeys(addresses, "label")
    [listed] = asked(entering, "node", "list")
    assert (listed["hardware"], listed["ready"]) == ([MAC], True)
    assert asked(entering, "node", "add", "label", "--mac", MAC.upper()) == entered
    assert "forget it first" in run(entering, "node", "add", "other", "--mac", MAC).err
    addresses.add(FIXED)  # for the interface that has the hardware address, whatever its name will be
    assert run(entering, "address", "reserve", "label", FIXED).code == OK
    assert len({one["iaid"] for one in asked(entering, "address", "list")}) == 1

    # An agent has recognised it, and was killed before any ledger had it.
    entry = bytes.fromhex(entered["client"])
    site = Site.load(entering.directory)
    octets = bytes.fromhex(duid(1).replace(":", ""))
    client, hardware = site.client_id(octets), Personal(bytes.fromhex(MAC.replace(":", "")))
    name = Personal("label")
    copied = NodeEntered(client=client, duid=Personal(octets), name=name, iaid=iaid_of("eth7"), hardware=(hardware,))
    assert come(entering, 1, "host", copied) == client
    tell(entering, entry, JoinNode(client=entry, into=client, hardware=hardware))
    [node] = asked(entering, "node", "list")
    assert (node["name"], node["client"], node["identities"]) == ("host", client.hex(), [entry.hex()])
    shown = asked(entering, "node", "show", "label")
    assert (shown["node"]["name"], {one["address"] for one in shown["addresses"]}) == ("host", addresses)
    again = asked(entering, "node", "add", "label", "--mac", MAC)
    assert {one["address"] for one in again["addresses"]} == addresses
    leases = asked(entering, "address", "list")
    assert {(one["client"], one["iaid"]) for one in leases} == {(client.hex(), iaid_of("eth7"))}
    assert asked(entering, "node", "show", "host")["node"]["ready"] is True
    assert verified(entering)

    assert set(asked(entering, "node", "forget", "label")["unheld"]) == addresses
    assert asked(entering, "node", "list") == []
    entered = asked(entering, "node", "add", "label", "--mac", MAC)
    assert {one["address"] for one in entered["addresses"]} == addresses - {FIXED}
    assert verified(entering)


def test_an_operator_joins_a_machine_that_was_installed_anew_with_what_it_was(entering: Served) -> None:
    old = asked(entering, "node", "add", "old", "--mac", MAC, "--group", "voip")
    addresses = {one["address"] for one in old["addresses"]}
    new = come(entering, 2, "new")
    joined = asked(entering, "node", "join", "new", "old", "--interface", "eth5")
    assert (set(joined["moved"]), joined["client"]) == (addresses, new.hex())
    assert {(one["client"], one["iaid"]) for one in asked(entering, "address", "list")} == {
        (new.hex(), iaid_of("eth5"))
    }
    [node] = asked(entering, "node", "list")
    assert (node["identities"], node["entered_group"], node["ready"]) == ([old["client"]], "voip", True)
    assert old["client"] in run(entering, "node", "show", "new").out
    for words in (["new", "old"], ["old", "new"]):
        both = run(entering, "node", "join", *words)
        assert (both.code, both.out) == (REFUSED, "")
        assert "both are this node already" in both.err

    newer = come(entering, 3, "newer")
    assert set(asked(entering, "node", "join", "newer", "new")["moved"]) == addresses
    [node] = asked(entering, "node", "list")
    assert (node["client"], set(node["identities"])) == (newer.hex(), {new.hex(), old["client"]})
    assert verified(entering)

    assert run(entering, "node", "part", "newer", "ff" * 16).code == NO
    assert new.hex() in run(entering, "node", "part", "newer", new.hex()[:8]).out
    assert {node["name"] for node in asked(entering, "node", "list")} == {"new", "newer"}
    assert {one["client"] for one in asked(entering, "address", "list")} == {newer.hex()}
    assert run(entering, "node", "join", "newer", "nobody").code == NO
    assert verified(entering)

    parted = asked(entering, "node", "part", "newer", old["client"][:8])  # the entry: it waits for a machine again
    others = {one["address"] for one in parted["kept"]}
    assert (parted["other"], len(others)) == (old["client"], len(addresses))
    assert not others & addresses
    kept = {one["address"] for one in asked(entering, "address", "list") if one["client"] == old["client"]}
    assert kept == others
    [waiting] = [node for node in asked(entering, "node", "list") if node["client"] == old["client"]]
    assert (waiting["name"], waiting["entered_group"], waiting["ready"]) == ("old", "voip", True)
    assert verified(entering)


def tell(served: Served, client: bytes, request: JoinNode) -> None:
    """Have the shard of a node decide, as an agent has it."""

    async def told() -> None:
        site = Site.load(served.directory)
        log = await jetstream.connect(served.bus, site.name, token=site.bus_token)
        subject = subjects.node(site.name, client)
        fold = Fold(NodeShard())
        shard = Committer(log, subject, fold, actor="agent/east", now=lambda: NOON, random=os.urandom)
        running = asyncio.create_task(shard.run())
        try:
            await shard.catch_up()
            await shard.submit(request)
        finally:
            running.cancel()
            await asyncio.wait((running,))
            await log.close()

    asyncio.run(told())


def test_who_is_here_is_not_forgotten_and_leases_end_with_who_is(entering: Served) -> None:
    lease = AddressAllocated(
        address=SHARED, client=BETA, iaid=1, pool="office-v6", valid_until=NOON + HOUR, horizon=NOON + 4 * HOUR
    )
    others = [commit for commit in history() if not commit[0].startswith("ledger.")]
    write(entering, [*others, ("ledger.office", NOON, (lease,))])
    here = run(entering, "node", "forget", "alpha")
    assert (here.code, here.out) == (REFUSED, "")
    assert "has an open session" in here.err
    assert run(entering, "node", "forget", "nobody").code == NO
    assert run(entering, "node", "forget", ALPHA.hex()).code == REFUSED
    assert run(entering, "node", "forget", "beta").code == USAGE  # two have that name
    assert [one["address"] for one in asked(entering, "address", "list")] == ["2001:db8:1:1::5"]
    forgotten = asked(entering, "node", "forget", BETA.hex())
    assert (forgotten["unheld"], forgotten["withdrawn"]) == ([], ["2001:db8:1:1::5"])
    assert asked(entering, "address", "list") == []
    assert verified(entering)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--duid", "1"], "'1' is no DUID"),
        (["--duid", duid(9), "--group", "sales"], "the plan has no group 'sales'; expected one of ['voip']"),
        (["--duid", duid(9), "--subnet", "attic"], "the plan has no subnet 'attic'"),
        (["--mac", "01:00:5e:00:00:01"], "'01:00:5e:00:00:01' is no hardware address"),
        (["--mac", MAC, "--interface", "eth0"], "the one with that hardware address"),
        (["--mac", MAC, "--duid", duid(9)], "give NAME and --duid or --mac"),
        ([], "give NAME and --duid or --mac"),
    ],
)
def test_what_is_no_node_is_refused(entering: Served, words: list[str], said: str) -> None:
    done = run(entering, "node", "add", "printer", *words)
    assert (done.code, done.out) == (USAGE, "")
    assert said in done.err
    assert reserved(entering) == {}


def test_a_full_pool_leaves_the_node_entered_and_not_ready(entering: Served, plan_of_both: Path) -> None:
    plan_of_both.write_text(BOTH.replace('range = "192.0.2.0/28"', 'range = "192.0.2.8-192.0.2.8"'))
    assert run(entering, "plan", "apply", plan_of_both).code == OK
    assert run(entering, "node", "add", "first", "--duid", duid(1)).code == OK
    second = run(entering, "node", "add", "second", "--duid", duid(2))
    assert (second.code, second.out) == (REFUSED, "")
    assert "entered and not ready, since it has no address: IPv4 in subnet office" in second.err
    assert asked(entering, "node", "show", "second")["node"]["ready"] is False
    plan_of_both.write_text(BOTH)
    assert run(entering, "plan", "apply", plan_of_both).code == OK
    assert len(asked(entering, "node", "add", "second", "--duid", duid(2))["addresses"]) == 3
    assert asked(entering, "node", "show", "second")["node"]["ready"] is True


def test_what_a_server_had_begun_the_next_one_finishes(tmp_path: Path, plan_of_both: Path) -> None:
    """The first one has entered the node, and ended before it held an address."""
    directory = tmp_path / "site"
    assert dnms("init", NAME, "--site", directory).code == OK
    site = Site.load(directory)
    octets = bytes.fromhex(duid(7).replace(":", ""))
    client = site.client_id(octets)
    entered = NodeEntered(
        client=client, duid=Personal(octets), name=Personal("late"), iaid=iaid_of("eth0"), subnets=("lab",)
    )
    with serving(directory) as served:
        assert run(served, "plan", "apply", plan_of_both).code == OK
        write(served, [(f"node.{client[0]:02x}", 1, (entered,))])
    with serving(directory) as served:
        deadline = time.monotonic() + PATIENCE
        while not asked(served, "node", "list")[0]["ready"]:
            assert time.monotonic() < deadline
        assert list(reserved(served).values()) == ["late"]
        assert verified(served)


def test_the_same_file_keeps_other_addresses_after_a_pool_has_moved(entering: Served, tmp_path: Path) -> None:
    file, moved = tmp_path / "nodes.csv", tmp_path / "moved.toml"
    file.write_text("name,duid,subnets\n" + "".join(f"host-{n},{duid(n)},lab\n" for n in range(1, 9)))
    before = asked(entering, "node", "add", "--from", file)
    moved.write_text(BOTH.replace("2001:db8:1:2::/64", "2001:db8:1:3::/64"))
    assert "lab: 8 reserved addresses would be in no pool" in run(entering, "plan", "diff", moved).out
    assert "`dnms node add` again" in run(entering, "plan", "apply", moved).out
    after = asked(entering, "node", "add", "--from", file)
    assert [each["name"] for each in after] == [each["name"] for each in before]
    kept = {one["address"]: each["name"] for each in after for one in each["addresses"]}
    assert len(kept) == 8
    assert all(address.startswith("2001:db8:1:3:") for address in kept)
    assert reserved(entering) == kept  # and nothing of what was
    assert asked(entering, "node", "add", "--from", file) == after
    assert verified(entering)


def test_a_file_of_nodes_is_entered_and_bad_lines_are_told(entering: Served, tmp_path: Path) -> None:
    file = tmp_path / "nodes.csv"
    good = [f"host-{n},{duid(n)},{'voip' if n % 2 else ''},lab" for n in range(1, 31)]
    lines = [
        "name,duid,group,subnets",
        *good[:10],
        "nobody,,,",
        *good[10:],
        "x,zz,,",
        "one,two",
        f"y,{duid(99)},sales,",
    ]
    file.write_text("\n".join(lines) + "\n")
    done = run(entering, "node", "add", "--from", file, "-o", "json")
    assert done.code == NO
    entered = json.loads(done.out)
    assert [each["name"] for each in entered] == [f"host-{n}" for n in range(1, 31)]
    told = dict(line.split(": ", 2)[1:] for line in done.err.splitlines()[:-1])
    assert set(told) == {f"{file}:{line}" for line in (12, 33, 34, 35)}
    assert "duid or mac is missing" in told[f"{file}:12"]
    assert "is no DUID" in told[f"{file}:33"]
    assert "expected 4 values, found 2" in told[f"{file}:34"]
    assert "the plan has no group 'sales'" in told[f"{file}:35"]
    assert done.err.splitlines()[-1] == "dnms: 30 of 34 nodes are entered"
    assert len(reserved(entering)) == len({a["address"] for each in entered for a in each["addresses"]}) == 30
    assert verified(entering)


def test_who_interrupts_a_file_is_told_how_far_it_went(entering: Served, tmp_path: Path) -> None:
    file = tmp_path / "nodes.csv"
    file.write_text("name,duid,subnets\n" + "".join(f"host-{n},{duid(n)},lab\n" for n in range(1, 5_001)))
    process = subprocess.Popen(
        [DNMS, "node", "add", "--from", file, "-o", "json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **entering.environment},
    )
    try:
        deadline = time.monotonic() + PATIENCE
        while len(reserved(entering)) < 16:  # more than are asked for at once, so some are answered
            assert time.monotonic() < deadline
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=PATIENCE)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == INTERRUPTED
    entered = [each["name"] for each in json.loads(out)]
    assert 0 < len(entered) < 5_000
    assert err == f"dnms: {len(entered)} of 5000 nodes are entered; the same command again goes on from there\n"
    assert set(entered) <= set(reserved(entering).values())


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("name;mac\n", "no column is called 'name;mac'"),
        ("name,mac,mac\n", "the column 'mac' is there twice"),
        ("name,group\n", "the column 'duid' or 'mac' is missing"),
    ],
)
def test_a_file_without_the_columns_is_refused_as_a_whole(
    entering: Served, tmp_path: Path, text: str, said: str
) -> None:
    file = tmp_path / "nodes.csv"
    file.write_text(text)
    done = run(entering, "node", "add", "--from", file)
    assert (done.code, done.out) == (USAGE, "")
    assert f"{file}:1: {said}" in done.err


def test_json_lines_are_entered_too_and_again_changes_nothing(entering: Served, tmp_path: Path) -> None:
    file = tmp_path / "nodes.jsonl"
    rows = [{"name": f"host-{n}", "duid": duid(n), "subnets": ["lab"], "interface": "eth1"} for n in range(1, 4)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    entered = asked(entering, "node", "add", "--from", file)
    assert asked(entering, "node", "add", "--from", file) == entered
    assert len(reserved(entering)) == 3
    file.write_text(json.dumps({"name": "by-mac", "mac": MAC, "subnets": ["lab"]}) + "\n")
    [by_mac] = asked(entering, "node", "add", "--from", file)
    assert (by_mac["name"], len(by_mac["addresses"])) == ("by-mac", 1)
    file.write_text('{"name": "x"\n')
    broken = run(entering, "node", "add", "--from", file)
    assert broken.code == NO
    assert f"{file}:1: expected a JSON object" in broken.err
