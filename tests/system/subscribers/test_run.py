"""`dnms subscriber run firewall` beside a site that is served: it follows, is killed, ends where it cannot trust."""

from __future__ import annotations

import json
import random
import shutil
import socket
import subprocess
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from dnms.cli.exits import MACHINE, OK, REFUSED
from dnms.events.address import AddressAllocated
from dnms.events.ip import format_address
from tests.netns.subscribers.conftest import Machine
from tests.system.cli.conftest import DNMS, HOUR, NAME, NOON, PATIENCE, PLAN, Served, dnms, serving, write
from tests.system.subscribers.conftest import Subscriber, subscribed, until

INSTANCE = socket.gethostname().partition(".")[0].lower()
MEMBERS = 400
KILLS = 12

PHONE = bytes([0xB]) * 16


def allocated(number: int) -> AddressAllocated:
    address = (0x2001_0DB8_0001_0001_5A1E_0000_0000_0000 + number).to_bytes(16)
    return AddressAllocated(
        address=address,
        client=PHONE,
        iaid=number,
        pool="office-v6",
        group=0x5A1E,
        valid_until=NOON + HOUR,
        horizon=NOON + HOUR,
    )


@pytest.fixture
def site(tmp_path: Path) -> Path:
    directory = tmp_path / "site"
    assert dnms("init", NAME, "--site", directory).code == OK
    return directory


def apply_plan(served: Served) -> None:
    plan = served.directory.with_name("plan.toml")
    plan.write_text(PLAN)
    done = dnms("plan", "apply", plan, environment=served.environment)
    assert done.code == OK, done.err


def lease(served: Served, *, members: int = MEMBERS) -> set[str]:
    """Every address in a commit of its own."""
    leases = [allocated(number) for number in range(1, members + 1)]
    write(served, [("ledger.office", NOON, (one,)) for one in leases])
    return {format_address(one.address) for one in leases}


def wait_until_it_says(subscriber: Subscriber, what: str) -> None:
    """In its log, from its start on."""
    until(lambda: what in subscriber.log.read_bytes()[subscriber.begin :].decode())


def applied(served: Served) -> list[dict[str, Any]]:
    """The instances that have done all that the log has for them so far."""
    done = dnms("subscriber", "list", "-o", "json", environment=served.environment)
    rows: list[dict[str, Any]] = json.loads(done.out) if done.code == OK else []
    return [row for row in rows if row["position"]]


def test_it_follows_the_log_ends_when_asked_and_leaves_the_sets(machine: Machine, site: Path) -> None:
    def work() -> None:
        with serving(site) as served, subscribed(site, served.bus) as subscriber:
            assert subscriber.settled() == {
                "subscriber": "firewall",
                "instance": INSTANCE,
                "site": NAME,
                "bus": served.bus,
                "position": 0,
            }
            assert machine.sets() == {}
            apply_plan(served)
            until(lambda: machine.sets() == {"voip-4": set(), "voip-6": set()})
            members = lease(served, members=3)
            until(lambda: machine.sets()["voip-6"] == members)
            until(lambda: len(applied(served)) == 1)
            waited = dnms("wait", min(members), "--for", "firewall", "--timeout", "30", environment=served.environment)
            assert waited.code == OK, waited.err
            [row] = applied(served)
            assert (row["subscriber"], row["instance"], row["failing_since"]) == ("firewall", INSTANCE, None)
            assert 0 < row["waited_ms"] < 60_000
            done = dnms("audit", "--kind", "effect.applied", "-o", "json", environment=served.environment)
            added = [text for event in json.loads(done.out) for text in event["fields"].get("added", ())]
            assert {f"{member} in voip-6" for member in members} <= set(added)
            assert subscriber.end() == OK
            assert machine.sets()["voip-6"] == members
            log = subscriber.log.read_text()
            assert "the log has no plan" in log
            assert "Traceback" not in log

    machine.call(work)


def test_one_that_is_killed_anywhere_ends_equal_to_the_log_the_next_time(machine: Machine, site: Path) -> None:
    """With SIGKILL, at random moments of a start, a fold and an apply."""
    chance = random.Random(7)

    def work() -> None:
        with serving(site) as served:
            apply_plan(served)
            members = lease(served)
            for _ in range(KILLS):
                machine.nft("delete table inet dnms" if machine.sets() else "")
                begin = chance.choice(["", "the log is folded", "applied"])
                with subscribed(site, served.bus) as subscriber:
                    wait_until_it_says(subscriber, begin)
                    subscriber.kill()
                assert machine.sets().get("voip-6", set()) in (set(), members)  # a transaction is all or nothing
            with subscribed(site, served.bus) as subscriber:
                subscriber.settled()
                assert machine.sets() == {"voip-4": set(), "voip-6": members}
                assert subscriber.end() == OK

    machine.call(work)


def test_a_bus_that_is_away_takes_nothing_and_one_that_is_made_anew_is_another_log(
    machine: Machine, site: Path
) -> None:
    def work() -> None:
        with serving(site) as served:
            apply_plan(served)
            members = lease(served, members=3)
            with subscribed(site, served.bus) as subscriber:
                subscriber.settled()
                assert subscriber.end() == OK
        with subscribed(site, served.bus) as subscriber:  # nothing listens there now
            until(lambda: "no bus yet" in subscriber.log.read_text())
            assert subscriber.end() == OK
        assert machine.sets() == {"voip-4": set(), "voip-6": members}
        shutil.rmtree(site / "log")
        for file in site.glob("views.db*"):
            file.unlink()
        with serving(site) as served, subscribed(site, served.bus) as subscriber:
            assert subscriber.process.wait(PATIENCE) == REFUSED
            log = subscriber.log.read_text()
            assert "dnms: this is not the log by which was acted last" in log
            assert str(site / "subscribers" / "firewall.json") in log
            assert machine.sets() == {"voip-4": set(), "voip-6": members}
            (site / "subscribers" / "firewall.json").unlink()  # as it is told there
            with subscribed(site, served.bus) as again:
                again.settled()
                assert "the log has no plan" in again.log.read_text()
                assert machine.sets() == {"voip-4": set(), "voip-6": members}

    machine.call(work)


def test_a_machine_that_cannot_is_told_at_once(machine: Machine, site: Path) -> None:
    missing = dnms("subscriber", "run", "firewall", "--site", site.with_name("none"))
    assert missing.code == MACHINE
    assert "`dnms init` makes a new one" in missing.err
    nft = shutil.which("nft") or "/usr/sbin/nft"
    hidden = ["unshare", "--mount", "sh", "-c", 'mount --bind /dev/null "$0" && exec "$@"', nft]
    for words, reason in (
        (hidden, "nftables (the program `nft`) is not installed"),
        (["setpriv", "--bounding-set=-net_admin"], "Operation not permitted"),
    ):
        done = machine.call(partial(_run, [*words, str(DNMS), "subscriber", "run", "firewall", "--site", str(site)]))
        assert done.returncode == MACHINE, done.stderr
        assert reason in done.stderr
        assert "Traceback" not in done.stderr


def _run(words: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(words, capture_output=True, text=True, check=False, timeout=PATIENCE)


def test_the_list_says_who_could_be_run_where_nobody_has(site: Path) -> None:
    with serving(site) as served:
        listed = dnms("subscriber", "list", "-o", "json", environment=served.environment)
    assert (listed.code, json.loads(listed.out)) == (OK, [])
    assert "firewall: nftables" in listed.err
