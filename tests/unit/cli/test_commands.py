"""Every command: that it is there, that it has help, and how it refuses what is wrong."""

from __future__ import annotations

import inspect
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cyclopts import App

from dnms.bus import urls
from dnms.cli import AGENTS, main
from dnms.cli.app import COMMANDS, make
from dnms.cli.exits import OK, USAGE


def commands(app: App, path: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    """Every command that is no group, with its function."""
    for name in app:
        if name.startswith("-") or name in AGENTS:
            continue
        below = app[name]
        if below.default_command is not None:
            yield " ".join((*path, name)), below.default_command
        yield from commands(below, (*path, name))


FUNCTIONS = dict(commands(make()))


def test_all_commands_are_known() -> None:
    assert set(FUNCTIONS) == {
        "init",
        "serve",
        "subscriber run",
        "subscriber list",
        "subscriber dead",
        "wait",
        "subscriber retry",
        "import dnsmasq",
        "import isc-dhcpd",
        "import kea",
        "shadow",
        "plan apply",
        "plan check",
        "plan diff",
        "plan export",
        "plan show",
        "node list",
        "node show",
        "node add",
        "node forget",
        "node diff",
        "node history",
        "node plan",
        "node join",
        "node part",
        "address list",
        "address show",
        "address reserve",
        "address release",
        "address move",
        "address history",
        "address seen",
        "alarm list",
        "rollout status",
        "rollout pause",
        "rollout resume",
        "rollout abort",
        "pool list",
        "pool show",
        "who-had",
        "what-if",
        "subnet changes",
        "prefix list",
        "prefix show",
        "prefix tree",
        "prefix history",
        "why",
        "audit",
        "activity",
        "inventory ansible",
        "inventory prometheus",
        "event list",
        "event tail",
        "evidence",
        "evidence verify",
        "view rebuild",
        "view verify",
        "keys export",
        "keys import",
        "log export",
        "log import",
        "log archive",
        "log check",
        "log repair",
        "replay",
        "lab run",
        "lab list",
        "firewall show",
        "firewall diff",
        "doctor",
    }


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_command_prints_as_a_table_or_as_json(name: str) -> None:
    assert inspect.signature(FUNCTIONS[name]).parameters["output"].default == "table"


@pytest.mark.parametrize("name", [*FUNCTIONS, *(name for _, name, _, _ in COMMANDS if name not in AGENTS)])
def test_every_command_has_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*name.split(), "--help"]) == OK
    assert f"dnms {name}" in capsys.readouterr().out


@pytest.mark.parametrize("name", AGENTS)
def test_agents_have_entry_points_of_their_own(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([name, "--help"])
    assert ended.value.code == 0
    assert f"dnms {name}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("nods list", "unknown command 'nods', did you mean 'node'?"),
        ("node lst", 'Unknown command "lst"'),
        ("node list --subnt x", "--subnt"),
        ("node list -o yaml", 'Choose from: "table", "json"'),
        ("node show", "NODE"),
        ("who-had 192.0.2.300", "192.0.2.300"),
        ("node list -o yaml", '"jsonl", "csv"'),
        ("who-had ::1 --at whenever", "expected ISO 8601"),
        ("who-had ::1 --at 01/02/2026", "it may have the day or the month first"),
        ("who-had ::1 --at 5 --to 6", "give --at, or --from and --to"),
        ("who-had ::1 --from 6 --to 5", "--from is behind --to"),
        ("prefix history 2001:db8::1/64", "has host bits set"),
        ("audit --since 6 --until 5", "--since is behind --until"),
        ("audit --limit 0", "--limit"),
        ("activity --by address", '"kind", "family", "subnet"'),
        ("event list --limit 0", "--limit"),
        ("event list --limit 1001", "--limit"),
        ("lab run nothing", "basic"),
        ("lab run basic --nodes many", "--nodes"),
        ("subscriber run firewal", "there is no subscriber 'firewal'; expected one of firewall, routes, exec, webhook"),
        ("serve --listen 61080", "expected HOST:PORT"),
        ("plan apply /nonexistent/plan.toml", "cannot read /nonexistent/plan.toml: No such file or directory"),
        ("node show ''", "expected the name of a node"),
        ("serve --bus garbage", "'garbage' is no bus; expected nats://HOST:PORT"),
        ("serve --bus http://127.0.0.1:4222", "'http://127.0.0.1:4222' is no bus; expected nats://HOST:PORT"),
        ("view verify --bus nats://", "'nats://' is no bus; expected nats://HOST:PORT"),
        ("plan apply /dev/zero", "/dev/zero: more than 4 MiB, the most that a plan may have"),
        ("plan apply /dev/null", "/dev/null: $: Expected a [site] table with the name of the site"),
        ("plan apply plan.toml --if-position -1", "--if-position"),
        ("plan diff /nonexistent/plan.toml", "cannot read /nonexistent/plan.toml: No such file or directory"),
        ("address reserve alpha 192.0.2.300", "192.0.2.300"),
        ("address move 192.0.2.3 --to nowhere", "nowhere"),
        ("node add alpha", "give NAME and --duid or --mac, or a file with --from"),
        ("node add alpha --from nodes.csv", "with --from the file says all of the nodes"),
        ("node add --from /nonexistent/nodes.csv", "cannot read /nonexistent/nodes.csv"),
        ("node list --api ftp://host", "is no URL of an API"),
    ],
)
def test_wrong_usage_is_one_line_on_stderr(words: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(shlex.split(words)) == USAGE
    out, err = capsys.readouterr()
    assert out == ""
    assert said in err
    assert err.startswith("dnms: ")
    assert err.removesuffix("dnms: nothing was changed\n").count("\n") == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("subnet-agent --interface eth0", "the following arguments are required: --subnet"),
        ("subnet-agent --interface eth0 --subnet 'LAN x'", "--subnet: 'LAN x' is no name; expected lower-case letters"),
        ("subnet-agent --interface eth0 --subnet lan --name a_1", "--name: 'a_1' is no name"),
        ("subnet-agent --interface eth0 --subnet lan --bus garbage", "--bus: 'garbage' is no bus; expected nats://"),
        ("subnet-agent --interface eth0 --subnet lan --bus http://host:4222", "'http://host:4222' is no bus"),
        ("subnet-agent --interface eth0 --subnet lan --port 65536", "--port: 65536 is not within 0 to 65535"),
        ("subnet-agent --interface eth0 --subnet lan --port x", "--port: 'x' is no whole number"),
        ("subnet-agent --subnet lan", "one of the arguments --interface --relay is required"),
        ("subnet-agent --subnet lan --interface eth0 --relay edge", "not allowed with argument"),
        ("subnet-agent --subnet lan --relay Edge_1", "--relay: 'Edge_1' is no name"),
        ("subnet-agent --subnet lan --relay edge --dhcpv4", "--dhcpv4 is for a machine that is on the link"),
        ("relay --interface eth0 --subnet lan", "the following arguments are required: --agent"),
        ("relay --interface eth0 --subnet lan --agent nowhere", "'nowhere' is no address that is routed"),
        ("relay --interface eth0 --subnet lan --agent 192.0.2.1:0", "'192.0.2.1:0' is no address that is routed"),
        ("relay --interface eth0 --subnet lan --agent fe80::1", "'fe80::1' is no address that is routed"),
        ("relay issue Edge_1 here", "NAME: 'Edge_1' is no name"),
        ("relay issue edge", "the following arguments are required: DIRECTORY"),
        ("node-agent", "the following arguments are required: --interface"),
        ("node-agent --interface eth0 --wrong", "unrecognized arguments: --wrong"),
        ("node-agent --interface eth0 --give-back", "unrecognized arguments: --give-back"),
        ("node-agent release", "the following arguments are required: INTERFACE"),
        ("node-agent release eth0 --interface eth1", "unrecognized arguments: --interface"),
    ],
)
def test_wrong_usage_of_an_agent_is_one_line_on_stderr(
    words: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(shlex.split(words))
    assert ended.value.code == USAGE
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert err.startswith("dnms: ")
    assert said in err
    called = re.match(r"[a-z-]+( release| issue)?", words)
    assert called is not None
    assert f"see `dnms {called[0]} --help`" in err


@pytest.mark.parametrize("text", ["nats://host:4222", "tls://host", "nats://[::1]:4222", "nats://a:1,nats://b:2"])
def test_what_is_a_bus(text: str) -> None:
    assert urls.checked(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "host:4222",
        "nats:host",
        "nats://:4222",
        "nats://a:99999",
        "nats://a:{x}",
        "nats://a,b",
        "nats://a/b",
        "nats://a b",
    ],
)
def test_what_is_no_bus(text: str) -> None:
    with pytest.raises(ValueError, match="expected nats://HOST:PORT"):
        urls.checked(text)


def test_a_plan_that_is_nested_too_deeply_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for text in ("x = " + "[" * 100_000, "x = " + "[" * 400 + "]" * 400):
        file = tmp_path / "plan.toml"
        file.write_text(text)
        assert main(["plan", "apply", str(file)]) == USAGE
        assert str(file) in (err := capsys.readouterr().err)
        assert err.removesuffix("dnms: nothing was changed\n").count("\n") == 1


def test_a_plan_that_is_too_large_as_json_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "plan.toml"
    file.write_text("realm = [" + "{name='a'}," * 380_000 + "]")  # JSON needs two more characters for each
    assert file.stat().st_size < 4 << 20
    assert main(["plan", "apply", str(file)]) == USAGE
    assert "more than 4 MiB" in capsys.readouterr().err
