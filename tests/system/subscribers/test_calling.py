"""`dnms subscriber run exec webhook` beside a site that is served: killed, started again, asked for dead letters."""

from __future__ import annotations

import base64
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from standardwebhooks import Webhook

from dnms.cli.exits import NO, OK, REFUSED, USAGE
from dnms.disk.site import Site
from dnms.events.effect import EffectCalled, EffectDead
from dnms.events.node import NodeArrived
from tests.contracts.subscribers.web import Server, listening
from tests.system.cli.conftest import ALPHA, BETA, NAME, NOON, Done, Served, dnms, serving, write
from tests.system.subscribers.conftest import Subscriber, subscribed, until

SECRET = "whsec_" + base64.b64encode(bytes(32)).decode()
NODES = 60
KILLS = 6


@pytest.fixture
def site(tmp_path: Path) -> Path:
    directory = tmp_path / "site"
    assert dnms("init", NAME, "--site", directory).code == OK
    return directory


@pytest.fixture
def server() -> Iterator[Server]:
    with listening() as found:
        yield found


@pytest.fixture
def config(tmp_path: Path, server: Server) -> Path:
    """A program that writes down what it is called for, and a webhook."""
    program = tmp_path / "program"
    program.write_text(f'#!/bin/sh\necho "$DNMS_EVENT $DNMS_POSITION $DNMS_CLIENT" >> {tmp_path}/called\n')
    program.chmod(0o755)
    (tmp_path / "hook.secret").write_text(SECRET)
    file = tmp_path / "dnms.toml"
    file.write_text(
        f'[exec]\ncommand = ["{program}"]\nkinds = ["node"]\n'
        f'[webhook]\nurl = "{server.url}"\nsecret = "hook.secret"\nkinds = ["node.arrived"]\nbegin = "first"\n'
    )
    return file


def arrive(served: Served, shard: int, *, count: int = 1) -> None:
    """Nodes come, each in a commit of its own."""
    client = bytes([shard]) * 16
    write(
        served, [(f"node.{shard:02x}", NOON, (NodeArrived(client=client, subnet=f"s{each}"),)) for each in range(count)]
    )


def answered(subscriber: Subscriber, count: int) -> dict[str, dict[str, Any]]:
    """What each of several says when it is ready."""
    said = [subscriber.settled() for _ in range(count)]
    return {str(each["subscriber"]): each for each in said}


def called(config: Path) -> list[list[str]]:
    file = config.with_name("called")
    return [line.split() for line in file.read_text().splitlines()] if file.exists() else []


def run(served: Served, *words: str) -> Done:
    return dnms("subscriber", *words, environment=served.environment)


def rows(served: Served) -> dict[str, dict[str, Any]]:
    token = {"Authorization": f"Bearer {Site.load(served.directory).api_token}"}
    found = httpx.get(f"{served.api}/api/v1/subscribers", headers=token).raise_for_status().json()
    return {row["subscriber"]: row for row in found["items"]}


def test_two_in_one_process_call_for_what_comes_and_say_so(site: Path, config: Path, server: Server) -> None:
    with serving(site) as served:
        arrive(served, 0xA)
        with subscribed(site, served.bus, "exec", "webhook", "--config", config, "--instance", "gate") as both:
            said = answered(both, 2)
            assert said.keys() == {"exec", "webhook"}
            assert said["exec"]["instance"] == "gate"
            arrive(served, 0xB)
            until(lambda: len(called(config)) == 1 and len(server.requests) == 2)
            until(lambda: all(row["applied"] and row["position"] >= 2 for row in rows(served).values()))
            assert both.end() == OK
    [[kind, position, client]] = called(config)
    assert (kind, client) == ("node.arrived", BETA.hex())
    headers, content = server.requests[1]
    told = Webhook(SECRET).verify(content, headers)
    assert told["id"] == position  # both know the event by the same key
    assert told["subject"] == BETA.hex()
    first = json.loads(server.requests[0][1])
    assert first["data"]["fields"]["client"] == ALPHA.hex()  # this one begins with the log's first event


def test_one_that_is_killed_again_and_again_calls_for_everything(site: Path, config: Path, server: Server) -> None:
    chance = random.Random(5)
    words = ("webhook", "--config", config, "--instance", "gate")
    with serving(site) as served:
        arrive(served, 0xA, count=NODES)
        for number in range(KILLS):
            with subscribed(site, served.bus, *words) as one:
                enough = chance.randrange(NODES)
                until(lambda enough=enough: len(server.requests) >= enough)  # type: ignore[misc]
                server.status = chance.choice([204, 503])  # from now until it is killed
                if number % 2:
                    one.settled()
                one.kill()
            server.status = 204
        with subscribed(site, served.bus, *words) as one:
            until(lambda: _posted(server) >= NODES and rows(served)["webhook"]["waiting"] == 0)
            assert one.end() == OK
    fields = [json.loads(content)["data"]["fields"]["subnet"] for _, content in server.requests]
    assert list(dict.fromkeys(fields)) == [f"s{number}" for number in range(NODES)]  # in order, for this client


def _posted(server: Server) -> int:
    return len({headers["webhook-id"] for headers, _ in server.requests})


def test_dead_letters_are_listed_and_called_for_when_an_operator_asks(site: Path, config: Path, server: Server) -> None:
    with serving(site) as served:
        assert run(served, "retry", "webhook").code == NO  # nobody of this name
        arrive(served, 0xA, count=3)
        dead = [EffectDead(sequence=each, kind="node.arrived", why="timeout", text="t", attempts=9) for each in (1, 3)]
        write(served, [("effect.webhook.gate", NOON, (*dead, EffectCalled(position=3)))])
        until(lambda: "webhook" in rows(served))
        assert rows(served)["webhook"]["dead"] == 2
        listed = json.loads(run(served, "dead", "webhook", "-o", "json").out)
        assert [(row["position"], row["kind"], row["why"]) for row in listed] == [
            ("1.0", "node.arrived", "timeout"),
            ("3.0", "node.arrived", "timeout"),
        ]
        refused = run(served, "retry", "webhook", "2.0")
        assert (refused.code, "2.0 is no dead letter of webhook" in refused.err) == (REFUSED, True)
        assert run(served, "retry", "webhook", "second").code == USAGE
        asked = run(served, "retry", "webhook", "3.0")
        assert asked.code == OK, asked.err
        assert "webhook/gate calls again for node.arrived at 3.0." in asked.out
        with subscribed(site, served.bus, "webhook", "--config", config, "--instance", "gate") as one:
            until(lambda: rows(served)["webhook"]["dead"] == 1)
            assert [json.loads(content)["data"]["sequence"] for _, content in server.requests] == [3]
            assert run(served, "retry", "webhook", "--instance", "gate").code == OK
            until(lambda: rows(served)["webhook"]["dead"] == 0)
            assert one.end() == OK
        assert [json.loads(content)["data"]["sequence"] for _, content in server.requests] == [3, 1]
        assert run(served, "retry", "webhook").code == REFUSED  # none is dead
        audit = dnms("audit", "--kind", "effect.asked", "-o", "json", environment=served.environment)
        assert {event["actor"] for event in json.loads(audit.out)} == {"operator/api"}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("exec",), "exec: --config FILE is missing, a TOML file with a table [exec]"),
        (("exec", "exec"), "exec stands there twice"),
        (("exec", "--config", "/nonexistent"), "cannot read /nonexistent"),
        (("webhook", "--interface", "home=eth1"), "--interface: the subscriber webhook takes none"),
        (("routes", "--interface", "home"), "--interface 'home': expected SUBNET=INTERFACE, such as home=eth1"),
    ],
)
def test_wrong_options_are_told_at_once(site: Path, words: tuple[str, ...], said: str) -> None:
    done = dnms("subscriber", "run", *words, "--site", site, "--bus", "nats://127.0.0.1:1")
    assert (done.code, said in done.err) == (USAGE, True), done.err
    assert done.err.count("\n") == 1
