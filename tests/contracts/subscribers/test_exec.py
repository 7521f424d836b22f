"""A program at each event: what it is given, and what its end means."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from dnms.events.address import AddressExpired
from dnms.events.ip import parse_address, parse_prefix
from dnms.events.node import NodeIdentified
from dnms.events.plan import SiteDefined
from dnms.events.prefix import PrefixDelegated, PrefixReleased
from dnms.events.recorded import Event, Personal
from dnms.subscribers.caller import CallError, Happening
from dnms.subscribers.exec.environment import environment
from dnms.subscribers.exec.program import Program
from dnms.subscribers.subscriber import Local, OptionsError

DESK = bytes([0xD]) * 16
PREFIX, HOP = parse_prefix("2001:db8:0:10::/60"), parse_address("fe80::d")
DELEGATED = PrefixDelegated(
    prefix=PREFIX, client=DESK, iaid=7, delegation="to-laptops", next_hop=HOP, valid_until=2, horizon=3
)
RELEASED = PrefixReleased(prefix=PREFIX, client=DESK, iaid=7, next_hop=HOP)

Make = Callable[..., Program]


def happening(event: Event = DELEGATED, *, subject: str = "dnms.example.ledger.home") -> Happening:
    return Happening(
        log_id="one",
        sequence=12,
        index=3,
        subject=subject,
        time=1_750_000_000_000_000,
        stored_at=0,
        actor="a",
        event=event,
    )


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """The subscriber with a shell script in the place of the program."""

    def made(script: str, **keys: object) -> Program:
        path = tmp_path / "program"
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
        rows = {"command": [str(path), "one"], **keys}
        config = tmp_path / "dnms.toml"
        config.write_text("[exec]\n" + "".join(f"{name} = {json.dumps(value)}\n" for name, value in rows.items()))
        return Program.of(Local(site="example", config=config))

    return made


def test_it_has_the_event_on_its_input_and_in_its_environment(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DNMS_API_TOKEN", "secret")
    program = make(f'cat > {tmp_path}/given; env > {tmp_path}/env; echo "$1" > {tmp_path}/word')
    asyncio.run(program.call(happening()))
    given = json.loads((tmp_path / "given").read_text())
    assert given["position"] == "one:12.3"
    assert given["name"] == "prefix.delegated"
    assert given["time"] == "2025-06-15T15:06:40Z"
    assert given["fields"]["prefix"] == "2001:db8:0:10::/60"
    assert given["fields"]["next_hop"] == "fe80::d"
    found = dict(line.split("=", 1) for line in (tmp_path / "env").read_text().splitlines())
    ours = {name: value for name, value in found.items() if name.startswith("DNMS_")}
    assert ours == {
        "DNMS_EVENT": "prefix.delegated",
        "DNMS_POSITION": "one:12.3",
        "DNMS_TIME": "1750000000000000",
        "DNMS_ACTOR": "a",
        "DNMS_SUBJECT": "dnms.example.ledger.home",
        "DNMS_SUBNET": "home",
        "DNMS_PREFIX": "2001:db8:0:10::/60",
        "DNMS_CLIENT": DESK.hex(),
        "DNMS_IAID": "7",
        "DNMS_DELEGATION": "to-laptops",
        "DNMS_NEXT_HOP": "fe80::d",
        "DNMS_GROUP": "0",
        "DNMS_COUNTER": "0",
        "DNMS_VALID_UNTIL": "2",
        "DNMS_HORIZON": "3",
    }
    assert found["PATH"] == os.environ["PATH"]
    assert (tmp_path / "word").read_text() == "one\n"


def test_the_end_has_the_prefix_and_the_next_hop_too(make: Make) -> None:
    script = '[ "$DNMS_EVENT $DNMS_PREFIX $DNMS_NEXT_HOP" = "prefix.released 2001:db8:0:10::/60 fe80::d" ]'
    asyncio.run(make(script).call(happening(RELEASED)))


def test_what_no_environment_can_hold_is_left_out() -> None:
    event = NodeIdentified(client=DESK, duid=Personal(b"d"), name=Personal("a\0b" + "c" * 5_000))
    found = environment(happening(event, subject="dnms.example.node.0d"), {"HOME": "/"})
    assert "DNMS_NAME" not in found
    assert "DNMS_SUBNET" not in found
    event = NodeIdentified(client=DESK, duid=Personal(b"d"), name=Personal("a\0b"))
    assert environment(happening(event), {})["DNMS_NAME"] == "ab"
    expired = AddressExpired(address=parse_address("192.0.2.1"), client=DESK, iaid=1)
    assert environment(happening(expired), {})["DNMS_ADDRESS"] == "192.0.2.1"
    assert environment(happening(SiteDefined(name="x", level=1)), {})["DNMS_LEVEL"] == "1"


@pytest.mark.parametrize(
    ("script", "why", "text"),
    [
        ("echo 'it went wrong' >&2; exit 3", "exit", r"exit code 3: it went wrong"),
        ("kill -9 $$", "exit", "ended by signal 9"),
    ],
)
def test_any_other_end_is_tried_again(make: Make, script: str, why: str, text: str) -> None:
    with pytest.raises(CallError, match=text) as failed:
        asyncio.run(make(script).call(happening()))
    assert failed.value.why == why


def test_what_one_that_takes_too_long_has_written_is_told(make: Make) -> None:
    """It has more time from one call to the next until it has written anything: a busy machine starts it late."""
    timeout, said = 0.3, ""
    while not said:
        assert timeout < 20
        with pytest.raises(CallError) as failed:
            asyncio.run(make("yes | head -c 200000 >&2; sleep 600", timeout=timeout).call(happening()))
        assert failed.value.why == "timeout"
        told, _, said = str(failed.value).partition(": ")
        assert told == f"not done within {timeout:g} s"
        timeout *= 2
    assert said.startswith("y y y")


def test_one_that_takes_too_long_ends_with_all_that_it_started(make: Make, tmp_path: Path) -> None:
    program = make(f"sleep 600 & echo $! > {tmp_path}/child; wait", timeout=0.5)
    with pytest.raises(CallError):
        asyncio.run(program.call(happening()))
    child = Path(f"/proc/{(tmp_path / 'child').read_text().strip()}/stat")
    end = time.monotonic() + 10
    while child.exists() and child.read_text().split()[2] != "Z":
        assert time.monotonic() < end
        time.sleep(0.01)


def test_one_that_does_not_read_and_leaves_another_behind_is_done(make: Make, tmp_path: Path) -> None:
    began = time.monotonic()
    asyncio.run(make(f"sleep 600 & echo $! > {tmp_path}/child").call(happening()))
    os.kill(int((tmp_path / "child").read_text()), signal.SIGKILL)
    assert time.monotonic() - began < 60


def test_one_that_is_gone_is_tried_again(make: Make, tmp_path: Path) -> None:
    program = make("exit 0")
    (tmp_path / "program").unlink()
    with pytest.raises(CallError, match="No such file") as failed:
        asyncio.run(program.call(happening()))
    assert failed.value.why == "not-run"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", r"expected a table \[exec\] - at `\$`"),
        ("[exec", "not TOML"),
        ("[exec]", r"missing required field `command` - at `\$\.exec`"),
        ("[exec]\ncommand = []", r"length >= 1 - at `\$\.exec\.command`"),
        ('[exec]\ncommand = ["logger"]', r"the whole path of a program.*at `\$\.exec\.command\[0\]`"),
        ('[exec]\ncommand = ["/nowhere/at/all"]', r"/nowhere/at/all is no program.*at `\$\.exec\.command\[0\]`"),
        ('[exec]\ncommand = ["/bin/true", "a\\u0000"]', r"at `\$\.exec\.command\[1\]`"),
        ('[exec]\ncommand = ["/bin/true"]\nkinds = ["prefix", "adress"]', r"'adress'.*at `\$\.exec\.kinds\[1\]`"),
        ('[exec]\ncommand = ["/bin/true"]\ntimeout = 0', r"at `\$\.exec\.timeout`"),
        ('[exec]\ncommand = ["/bin/true"]\nbegin = "then"', r"at `\$\.exec\.begin`"),
        ('[exec]\ncommand = ["/bin/true"]\nbegin = "last"', r"expected one of first, now - at `\$\.exec\.begin`"),
        ('[exec]\ncomand = ["/bin/true"]', r"unknown field `comand`; known are .*command.* - at `\$\.exec`"),
    ],
)
def test_a_mistake_in_the_file_is_told_with_its_place(tmp_path: Path, text: str, why: str) -> None:
    config = tmp_path / "dnms.toml"
    config.write_text(text)
    with pytest.raises(OptionsError, match=why) as refused:
        Program.of(Local(site="example", config=config))
    assert str(config) in str(refused.value)


def test_a_file_is_needed(tmp_path: Path) -> None:
    with pytest.raises(OptionsError, match="--config FILE is missing"):
        Program.of(Local(site="example"))
    with pytest.raises(OptionsError, match="cannot read"):
        Program.of(Local(site="example", config=tmp_path / "none"))
