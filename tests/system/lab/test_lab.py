"""`dnms lab run`, whole: real kernel, bus, router and agents; as root and as an ordinary user."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.netns import debian

LAB = [sys.executable, "-P", "-m", "dnms.lab"]
BASIC = [*LAB, "run", "basic", "--nodes", "8", "--agents", "2", "-o", "json"]
DEADLINE = 120.0
NOBODY = 65534
REPOSITORY = Path(__file__).parents[3]


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the lab keeps its logs."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    return folder


def run(command: Sequence[str], **more: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE, check=False, **more)


@contextmanager
def running(command: Sequence[str], until: str) -> Iterator[subprocess.Popen[str]]:
    """A lab that has said that it is so far."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            assert any(until in line for line in process.stderr), "it ended before"
            yield process
        finally:
            process.kill()


def links() -> set[str]:
    return {line.split(": ")[1] for line in run(["ip", "-o", "link"]).stdout.splitlines()}


def scenario(name: str, nodes: int, agents: int = 2) -> list[str]:
    return [*LAB, "run", name, "--nodes", str(nodes), "--agents", str(agents), "-o", "json"]


def check(
    done: subprocess.CompletedProcess[str], name: str = "basic", nodes: int = 8, agents: int = 2, **more: int
) -> int:
    """All went well, and stdout has the JSON alone, with `more` in it; the number of events."""
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    times, beyond = report.pop("time_to_configured_ms"), report.pop("time_beyond_dad_ms")
    events, seconds = report.pop("events"), report.pop("seconds")
    assert report == {
        "scenario": name,
        "nodes": nodes,
        "configured": nodes,
        "duplicates": 0,
        "subnet_agents": agents,
        "views_equal_log": True,
        **more,
    }
    assert list(times) == list(beyond) == ["p50", "p99", "max"]
    assert 0 < beyond["p50"] <= beyond["p99"] <= beyond["max"] < times["max"]
    assert 0 < times["p50"] <= times["p99"] <= times["max"] < seconds * 1_000
    assert events > nodes * 5  # identified, arrived, opened, registered, allocated twice, applied
    assert isinstance(events, int)
    return events


def test_nodes_are_configured_and_nothing_is_left(temporary: Path) -> None:
    before = links()
    check(run(BASIC))
    assert links() == before
    assert list(temporary.iterdir()) == []


def test_an_ordinary_user_can_run_it(tmp_path: Path) -> None:
    check(run(as_nobody(BASIC, tmp_path)))


def test_no_node_loses_what_it_has_while_agents_leave_and_come_back(temporary: Path) -> None:
    done = run(scenario("handover", 6))
    assert check(done, "handover", 6) > 6 * 15, "each node has four sessions or more, and a new plan"
    assert done.stderr.count("and 0 things were wrong") == 2


def test_a_renumbered_subnet_loses_no_packet(temporary: Path) -> None:
    done = run(scenario("renumber", 4))
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert (report["configured"], report["duplicates"], report["views_equal_log"]) == (4, 0, True)
    assert (report["lost_pings"], report["connections"], report["broken_connections"]) == (0, 16, 0)
    assert report["pings"] > 16 * 10, "ten a second to each address"
    assert 5 < report["both_valid_seconds"] < 10, "of 10 s, less DAD of the new one"


def test_handover_needs_another_agent(temporary: Path) -> None:
    done = run([*LAB, "run", "handover", "--nodes", "1", "--agents", "1"])
    assert (done.returncode, done.stdout) == (1, "")
    assert "lab: handover needs 2 Subnet Agents or more" in done.stderr


def test_nodes_come_and_go_while_agents_are_killed_down_to_one(temporary: Path) -> None:
    done = run(scenario("agents", 9, 3))
    check(
        done,
        "agents",
        9,
        3,
        agents_killed=6,
        nodes_came=9 + 6,
        nodes_gave_back=2,
        nodes_killed=2,
        nodes_stopped=2,
    )
    assert done.stderr.count(" was killed, 1 live: ") == 3, "each agent was the only one"
    assert "and 0 things were wrong" in done.stderr


@pytest.mark.parametrize(("nodes", "agents", "lacking"), [(9, 1, "2 Subnet Agents"), (5, 2, "6 nodes")])
def test_agents_needs_one_that_is_left_and_nodes_that_go(
    temporary: Path, nodes: int, agents: int, lacking: str
) -> None:
    done = run(scenario("agents", nodes, agents))
    assert (done.returncode, done.stdout) == (1, "")
    assert f"lab: agents needs {lacking} or more" in done.stderr


@pytest.mark.parametrize("nodes", [1, 6])
def test_a_node_whose_address_a_stranger_uses_gets_the_next_one(temporary: Path, nodes: int) -> None:
    done = run(scenario("duplicate", nodes))
    check(done, "duplicate", nodes)
    assert "and 0 things were wrong" in done.stderr


def test_nodes_get_back_what_a_link_or_a_reboot_takes_while_no_agent_is_there(temporary: Path) -> None:
    check(run(scenario("reboot", 6)), "reboot", 6)


def test_no_node_behind_relays_loses_what_it_has_when_a_relay_or_an_agent_is_killed(temporary: Path) -> None:
    done = run(scenario("relay", 4))
    check(done, "relay", 4)
    assert done.stderr.count(" is killed: ") == 2
    assert "and 0 things were wrong" in done.stderr


def test_nodes_join_while_a_node_an_agent_and_the_bus_are_killed(temporary: Path) -> None:
    done = run(scenario("crash", 6))
    check(done, "crash", 6)
    assert done.stderr.count(" is killed: ") == 3


def test_nodes_wait_for_a_link_that_is_cut(temporary: Path) -> None:
    done = run(scenario("cut", 4))
    check(done, "cut", 4)
    assert "2 of 2 nodes that came in the outage wait at its end" in done.stderr


def test_nodes_wait_for_a_disk_that_is_full(temporary: Path) -> None:
    check(run(scenario("disk", 4)), "disk", 4)


def outage(name: str) -> tuple[int, int]:
    """With 4 nodes, of which 2 join in it; how often was refused, and for how many ms an address was held twice."""
    done = run(scenario(name, 4))
    report = json.loads(done.stdout) if done.returncode == 0 else {"refused": 0, "double_held_ms": 0}
    refused, milliseconds = report["refused"], report["double_held_ms"]
    some = 0 if name == "outage-strict" else 1
    check(
        done,
        name,
        4,
        refused=refused,
        moved=some,
        journalled=2 * some,
        merged=2 * some,
        double_held_ms=milliseconds,
    )
    assert "and 0 things were wrong" in done.stderr
    return refused, milliseconds


def test_nodes_join_and_renew_while_the_bus_is_cut_off_and_two_have_one_address(temporary: Path) -> None:
    refused, milliseconds = outage("outage")
    assert refused >= 2, "each was refused IPv4"
    assert 5_000 < milliseconds < 60_000, "until the bus was back, and not for long after it"


def test_on_a_strict_subnet_no_two_have_one_address(temporary: Path) -> None:
    refused, milliseconds = outage("outage-strict")
    assert refused >= 2, "each was refused all"
    assert milliseconds == 0


@pytest.mark.parametrize("name", ["outage", "outage-strict", "relay"])
def test_where_one_of_two_has_to_go_on_there_have_to_be_two(temporary: Path, name: str) -> None:
    done = run([*LAB, "run", name, "--nodes", "2", "--agents", "1"])
    assert (done.returncode, done.stdout) == (1, "")
    assert "needs 2 Subnet Agents or more" in done.stderr


@pytest.mark.parametrize(
    ("name", "nodes"), [("crash", 2), ("cut", 1), ("disk", 1), ("outage", 1), ("outage-strict", 1)]
)
def test_too_few_nodes_would_show_nothing(temporary: Path, name: str, nodes: int) -> None:
    done = run(scenario(name, nodes))
    assert (done.returncode, done.stdout) == (1, "")
    assert f"needs {nodes + 1} nodes or more" in done.stderr


def test_tables_are_for_people(temporary: Path) -> None:
    done = run([*LAB, "run", "basic", "--nodes", "2", "--agents", "1"])
    assert done.returncode == 0, done.stderr
    for shown in (
        "node-1",
        "lab-v6",
        "address.allocated",
        "Time to a usable address",
        "beyond the kernel's DAD",
        "until it is",
        "2 of 2",
    ):
        assert shown in done.stdout
    assert "nodes configured 2/2" in done.stderr
    assert max(map(len, done.stdout.splitlines())) < 300, "into a pipe nothing is padded to the width of a screen"


# `nothing_is_left` in tests/conftest.py sees every process that is left.


def test_kill_9_leaves_nothing(temporary: Path) -> None:
    before = links()
    with running(BASIC, "starting Node Agents 8/8") as lab:
        lab.kill()
        assert lab.wait(DEADLINE) == -signal.SIGKILL
    assert links() == before


def test_sigterm_stops_it_in_good_order(temporary: Path) -> None:
    with running(BASIC, "starting Node Agents 8/8") as lab:
        lab.terminate()
        assert lab.wait(DEADLINE) == 128 + signal.SIGTERM
        assert lab.stdout is not None
        assert lab.stderr is not None
        assert lab.stdout.read() == ""
        assert "lab: stopped" in lab.stderr.read()
    assert list(temporary.iterdir()) == []


def test_a_failure_says_what_failed_and_keeps_the_logs(temporary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = temporary / "bin"
    broken.mkdir()
    (broken / "radvd").write_text("#!/bin/sh\necho as it was told >&2\nexit 1\n")
    (broken / "radvd").chmod(0o755)
    monkeypatch.setenv("PATH", str(broken), prepend=os.pathsep)
    done = run(BASIC)
    assert (done.returncode, done.stdout) == (1, "")
    *_, why, where = done.stderr.splitlines()
    assert why == "lab: radvd has ended; see radvd.log"
    logs = Path(where.rpartition(" ")[2])
    assert logs.parent == temporary
    assert (logs / "radvd.log").read_text() == "as it was told\n"
    assert (logs / "agent-1.log").exists()


def test_a_missing_program_is_one_line() -> None:
    hidden = 'mount --bind /dev/null $(command -v radvd) && exec "$@"'
    done = run(["unshare", "--mount", "sh", "-c", hidden, "sh", *BASIC])
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr == "dnms: the lab needs radvd; `dnms doctor` says how to get it\n"


def test_no_namespaces_is_one_line() -> None:
    forbidden = 'echo 0 > /proc/sys/user/max_user_namespaces && exec setpriv --bounding-set -all "$@"'
    done = run(["unshare", "--user", "--map-root-user", "sh", "-c", forbidden, "sh", *BASIC])
    assert (done.returncode, done.stdout) == (3, "")
    [line] = done.stderr.splitlines()
    assert line.startswith("dnms: namespaces are not allowed")
    assert line.endswith("`dnms doctor` says more")


@pytest.mark.parametrize("words", [["--nodes", "0"], ["--nodes", "901"], ["--agents", "0"]])
def test_too_many_and_too_few_are_refused(words: list[str]) -> None:
    done = run([*LAB, "run", "basic", *words])
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "dnms: the lab has 1 to 900 nodes and 1 to 100 Subnet Agents\n"


def test_the_list_has_every_scenario() -> None:
    done = run([*LAB, "list"])
    assert done.returncode == 0
    assert [line.split()[0] for line in done.stdout.splitlines()] == [
        "agents",
        "basic",
        "crash",
        "cut",
        "delegation",
        "disk",
        "drift",
        "duplicate",
        "handover",
        "lockout",
        "mixed",
        "outage",
        "outage-strict",
        "reboot",
        "relay",
        "renumber",
        "takeover",
        "waves",
    ]


def as_nobody(command: Sequence[str], tmp_path: Path) -> list[str]:
    """The command as an ordinary user.

    Python and the repository may lie where only root may go, as below /root: then, in mounts of its own, what is in
    the way is hidden behind a folder that holds nothing but the way.
    """
    if os.geteuid() != 0:
        return list(command)
    steps = ["set -e"]
    for number, needed in enumerate((Path(sys.base_prefix), Path(sys.prefix), REPOSITORY)):
        closed = [folder for folder in reversed(needed.parents) if not folder.stat().st_mode & 0o001]
        if closed:
            (tmp_path / str(number)).mkdir()
            steps += [
                f"mount --bind {needed} {tmp_path}/{number}",
                f"mount -t tmpfs -o mode=755 none {closed[0]}",
                f"mkdir -p {needed}",
                f"mount --bind {tmp_path}/{number} {needed}",
            ]
    drop = f"exec setpriv --reuid {NOBODY} --regid {NOBODY} --clear-groups env TMPDIR=/tmp HOME=/nonexistent"
    return ["unshare", "--mount", "sh", "-c", "\n".join([*steps, f'{drop} "$@"']), "sh", *command]


def test_whoever_is_logged_in_stays_so_through_a_take_over(temporary: Path) -> None:
    done = run(scenario("takeover", 4))
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert (report["connections"], report["broken_connections"], report["strays_left"]) == (4, 0, 0)


def test_a_change_that_cuts_all_nodes_off_is_rolled_back_by_all(temporary: Path) -> None:
    done = run(scenario("lockout", 4))
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert (report["rolled_back"], report["lost"]) == (4, 0)


def test_a_wrong_plan_stops_at_the_canary_and_a_right_one_reaches_all(temporary: Path) -> None:
    done = run(scenario("waves", 5))
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert (report["canaries_lost"], report["lost"]) == (1, 0)
    assert (report["waves"][0], sum(report["waves"])) == (1, 5)


def test_what_somebody_else_changes_is_put_back(temporary: Path) -> None:
    done = run(scenario("drift", 4))
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["restored"] >= 4


def test_a_prefix_of_an_isp_goes_down_three_levels_and_is_renumbered_without_a_lost_ping(temporary: Path) -> None:
    kea = debian.program("kea-dhcp6-server", "kea-dhcp6").parent
    environment = {**debian.environment(), "PATH": f"{kea}{os.pathsep}{os.environ['PATH']}"}
    done = run([*LAB, "run", "delegation", "-o", "json"], env=environment)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert (report["levels"], report["reachable_both_ways"], report["routes_left_after_release"]) == (3, True, 0)
    assert report["routes"] == 8  # of each router its link and what goes nowhere, of two of them a delegate
    assert report["rules"] and not report["rules_left_after_release"]
    assert report["lost_pings_at_renumber"] < 10  # less than one second
    assert report["pings"] > report["lost_pings_at_cut"] >= 0


def test_all_addresses_of_machines_with_and_without_agents_are_in_one_list_and_a_rogue_router_is_named(
    temporary: Path,
) -> None:
    done = run(scenario("mixed", nodes=2))
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert (report["machines"], report["configured"], report["duplicates"]) == (8, 2, 0)
    assert report["rogues"] == ["fe80::bad"]
    by = {name: list(found.values()) for name, found in report["listed"].items()}
    kinds = {name.rpartition("-")[0] for name in by}
    assert (len(by), kinds) == (8, {"node", "dhcp6", "dhcp4", "slaac"})
    for name, listed in by.items():
        assert all(listed)  # each address has a source
        assert any("lease" in sources for sources in listed) == (not name.startswith("slaac"))
        assert any("registered" in sources for sources in listed) == name.startswith("node")
    assert all(len(by[name]) >= 5 for name in ("slaac-1", "slaac-2"))  # link-local; of two prefixes a temporary one too
