"""`dnms replay` over a site's real log: as it is served, and while nobody serves it."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import subprocess
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest

from dnms.bus import jetstream
from dnms.bus.append import append
from dnms.bus.port import Log
from dnms.cli.exits import NO, OK, REFUSED, USAGE
from dnms.disk.site import Site
from dnms.events import codec, subjects
from dnms.events.address import AddressReleased
from dnms.events.commit import Commit, Decision
from dnms.events.recorded import Event
from dnms.events.requests import AllocateAddress
from tests.system.cli.conftest import ALPHA, BETA, DNMS, HELD, NAME, NOON, PATIENCE, Done, Served, dnms, serving

ADDRESS = "2001:db8:1:1::5"


def replay(served: Served, *words: str) -> Done:
    return dnms("replay", *words, "--bus", served.bus, environment=served.environment)


def steps(served: Served, *words: str) -> list[dict[str, Any]]:
    done = replay(served, *words, "-o", "json")
    assert (done.code, done.err) == (OK, "")
    return [json.loads(line) for line in done.out.splitlines()]


@pytest.fixture(scope="module")
def decided(served: Served) -> Served:
    """A site in whose log something was decided too: nodes that were entered, an address that was refused."""
    for number in range(3):
        duid = f"0004{number:032x}"
        done = dnms("node", "add", f"phone-{number}", "--duid", duid, environment=served.environment)
        assert done.code == OK, done.err
    refused = dnms("address", "reserve", "phone-0", f"{ADDRESS}", environment=served.environment)
    assert refused.code == REFUSED, refused
    return served


def test_it_is_the_same_log_as_that_of_the_views(decided: Served) -> None:
    deadline = time.monotonic() + PATIENCE
    while True:
        listed = json.loads(dnms("event", "list", "-o", "json", environment=decided.environment).out)
        if any(event["name"] == "node.ready" for event in listed):
            break
        assert time.monotonic() < deadline
    shown = {step["position"]: (step["name"], step["actor"], step["fields"]) for step in steps(decided)}
    for event in listed:
        assert shown[f"{event['sequence']}.{event['index']}"] == (event["name"], event["actor"], event["fields"])


def test_an_address_from_hand_to_hand(decided: Served) -> None:
    first, second, third = steps(decided, "--only", ADDRESS)
    assert [step["name"] for step in (first, second, third)] == [
        "address.allocated",
        "address.released",
        "address.allocated",
    ]
    assert first["before"]["lease"] is second["after"]["lease"] is third["before"]["lease"] is None
    assert first["after"]["lease"] == second["before"]["lease"]
    assert first["after"]["lease"]["client"] == BETA.hex()
    assert third["after"]["lease"]["client"] == ALPHA.hex()
    assert third["after"]["lease"]["valid_until"] == "2026-03-01T15:00:00Z"
    told = replay(decided, "--only", ADDRESS, "--to", "2026-03-01T13:00:00Z").out.splitlines()
    assert [line.split(" ", 1)[0] for line in told if not line.startswith(" ")] == ["5.1", "6.0"]
    assert "  - lease -" in told
    assert f"  + lease address {ADDRESS}, client {BETA.hex()}, iaid 1, pool office-v6, group 0, " in "\n".join(told)


def test_it_stops_at_a_condition(decided: Served) -> None:
    condition = f"lease.address == '2001:DB8:1:1:0::5' and lease.client == '{ALPHA.hex()}'"
    *_, last = steps(decided, "--only", "session", "--until", condition)
    assert (last["position"], last["stopped"]) == ("7.0", True)
    never = replay(decided, "--only", "session", "--until", "lease.pool == 'nowhere'")
    assert never.code == NO
    assert never.err == "dnms: the end is reached, and the condition never held\n"
    assert "session.opened" in never.out


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--until", "lease.address == 2001:db8::5"], USAGE, "names, addresses and times stand in quotes"),
        (["--until", "leese"], USAGE, "--until: there is no 'leese'"),
        (["--until", "time > 'noon'"], USAGE, "--until: 'noon' is compared with a time"),
        (["--until", "open('/etc/passwd')"], USAGE, "cannot stand in a condition"),
        (["--from", "whenever"], USAGE, "expected a position such as 12 or 12.3, or a time"),
        (["--decide", "--step"], USAGE, "--decide looks at all of the log"),
        (["--only", "nobody"], NO, "there is no such event"),
    ],
)
def test_what_is_wrong_is_said(decided: Served, words: list[str], code: int, said: str) -> None:
    done = replay(decided, *words)
    assert (done.code, done.out) == (code, "")
    assert said in done.err
    assert done.err.count("\n") == 1


@pytest.mark.parametrize(("typed", "shown"), [("\n\nq\n", 3), ("", 1), ("\nc\n", 0), ("q", 1)])
def test_it_waits_after_each_event(decided: Served, typed: str, shown: int, tmp_path: Path) -> None:
    command: list[str | Path] = [DNMS, "replay", "--step", "-o", "json", "--bus", decided.bus]
    environment = {**os.environ, **decided.environment}
    shown = shown or len(steps(decided))
    piped = subprocess.run(
        command, input=typed, env=environment, capture_output=True, text=True, check=True, timeout=PATIENCE
    )
    assert (len(piped.stdout.splitlines()), piped.stderr) == (shown, "")
    file = tmp_path / "typed"
    file.write_text(typed)
    with file.open() as typed_before:
        done = subprocess.run(
            command, stdin=typed_before, env=environment, capture_output=True, text=True, check=True, timeout=PATIENCE
        )
    assert done.stdout == piped.stdout


def test_on_a_terminal_it_asks(decided: Served) -> None:
    ours, theirs = pty.openpty()
    command: list[str | Path] = [DNMS, "replay", "--step", "-o", "json", "--bus", decided.bus]
    process = subprocess.Popen(
        command,
        stdin=theirs,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **decided.environment},
    )
    assert process.stdout is not None
    try:
        for position in ("1.0", "1.1"):
            assert json.loads(process.stdout.readline())["position"] == position
            os.write(ours, b"\n" if position == "1.0" else b"q\n")
        _, err = process.communicate(timeout=PATIENCE)
    finally:
        process.kill()
        process.wait()
        os.close(ours)
        os.close(theirs)
    assert process.returncode == OK
    assert err == "Enter: the next one, c: all the rest, q: quit " * 2


def test_this_release_decides_alike(decided: Served) -> None:
    done = replay(decided, "--decide")
    assert (done.code, done.err) == (OK, "")
    assert done.out.startswith("Decided ")
    assert done.out.endswith(": all of them alike.\n")
    tally = json.loads(replay(decided, "--decide", "-o", "json").out)
    assert tally["otherwise"] == 0
    assert tally["decisions"] >= 10, "a plan, and what entering three nodes takes"


def test_what_another_release_decided_otherwise_is_told(plan: Path, tmp_path: Path) -> None:
    """While nobody serves it, too; and a log that this release cannot fold is refused."""
    directory = tmp_path / "site"
    assert dnms("init", NAME, "--site", directory).code == OK
    asked = AllocateAddress(client=ALPHA, iaid=1, family=6)
    with serving(directory) as served:
        assert dnms("plan", "apply", plan, environment=served.environment).code == OK
        added = dnms("node", "add", "phone", "--duid", f"0004{7:032x}", environment=served.environment)
        assert added.code == OK, added.err
        refused = Decision(request=asked, at=NOON, refused="of-another-release")
        last = write(served, (), (refused,))
        done = replay(served, "--decide")
    assert (done.code, done.err) == (NO, "")
    first, recorded, now, tally = done.out.splitlines()
    assert first.startswith(f"{last} ")
    assert first.endswith("ledger.office agent/other address.allocate family 6")
    assert recorded == "  - refused of-another-release"
    assert now.startswith("  + address.allocated address 2001:db8:1:1:")
    assert tally.endswith(": 1 of them otherwise.")

    alone = dnms("replay", "--decide", "-o", "json", "--site", directory)
    otherwise, summary = map(json.loads, alone.out.splitlines())
    assert alone.code == NO
    assert (otherwise["sequence"], otherwise["decision"], summary["otherwise"]) == (last, 0, 1)
    assert otherwise["asked"] == {"request": "address.allocate", "client": ALPHA.hex(), "iaid": 1, "family": 6}
    assert otherwise["recorded"]["refused"] == "of-another-release"
    assert otherwise["decided"]["events"][0]["fields"]["client"] == ALPHA.hex()

    with serving(directory) as served:
        broken = write(served, (AddressReleased(address=HELD, client=ALPHA, iaid=1),), ())
        for words in ([], ["--decide"]):
            done = replay(served, *words)
            assert done.code == REFUSED
            assert f"this release cannot fold address.released of the commit at {broken}" in done.err


def write(served: Served, events: tuple[Event, ...], decisions: tuple[Decision, ...]) -> int:
    """Append one commit behind the newest one of the ledger, by its plan."""

    async def head_of(log: Log, subject: str) -> tuple[int, Commit]:
        found = None
        while (record := await log.first_after(subject, found.sequence if found else 0)) is not None:
            found = record
        assert found is not None
        return found.sequence, codec.decode(found.data)

    async def written() -> int:
        site = Site.load(served.directory)
        subject = subjects.ledger(site.name, "office")
        log = await jetstream.connect(served.bus, site.name, token=site.bus_token)
        try:
            head, before = await head_of(log, subject)
            commit = Commit(
                id=os.urandom(16),
                time=before.time,
                predecessor=head,
                actor="agent/other",
                plan=1,
                decisions=tuple(msgspec.structs.replace(each, at=before.time) for each in decisions),
                events=events,
            )
            return await append(log, subject, codec.encode(commit), expected=head)
        finally:
            await log.close()

    return asyncio.run(written())
