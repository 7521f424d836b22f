"""A change that cuts a node off is rolled back, by its agent or by the next one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dnms.disk.node_state import NodeStateDirectory
from dnms.events import codec
from dnms.events.seen import ConfigurationApplied
from dnms.linux.apply import STEPS
from dnms.linux.settle import STEPS as LAST_STEPS
from tests.netns.agents.conftest import PLAN, Network
from tests.netns.agents.test_gateways import defaults
from tests.netns.agents.test_takeover import change

QUICK = PLAN.replace("prefixes", "policy = { confirm = 3 }\nprefixes", 1)
WRONG = QUICK.replace('"fe80::1", "192.0.2.1"', '"fe80::dead", "192.0.2.222"').replace("::53", "::54")
PROBED = QUICK.replace("confirm = 3", 'confirm = 3, probe = "2001:db8:ffff::1"')

RUN = """
import asyncio, os, signal, sys
from pathlib import Path
from dnms.agents.node import NodeSettings, run
from dnms.linux import apply, settle
def begin(step):
    if step == sys.argv[1]:
        os.kill(os.getpid(), signal.SIGKILL)
apply.begin = settle.begin = begin
settings = NodeSettings(interface="eth0", state=Path(sys.argv[2]), root_certificate=Path(sys.argv[3]), name="web-1",
    resolv_conf=Path(sys.argv[4]))
asyncio.run(run(settings, stop=asyncio.Event()))
"""


def applied(network: Network) -> list[ConfigurationApplied]:
    events = (event for record in network.log.records for event in codec.decode(record.data).events)
    return [event for event in events if isinstance(event, ConfigurationApplied)]


async def settled(network: Network) -> None:
    """The node has what the plan says, proven and told."""
    await network.until(lambda: network.has("2001:db8:5:", "192.0.2."))
    await network.until(lambda: bool(applied(network)) and not applied(network)[-1].unproven)


async def test_gateways_that_do_not_answer_are_rolled_back_in_time(network: Network) -> None:
    network.plan = QUICK
    network.serve()
    network.live()
    await settled(network)
    assert defaults(network) == ["fe80::1"]
    resolver = (network.path / "resolv.conf").read_text()
    began = time.monotonic()
    await change(network, WRONG)
    await network.until(lambda: bool(applied(network)[-1].why))
    assert time.monotonic() - began < 3 + 5
    assert applied(network)[-1].why == "gateway"
    assert {item.outcome for item in applied(network)[-1].items} == {"rolled-back"}
    assert defaults(network) == ["fe80::1"]
    assert "via 192.0.2.1 " in network.node.run("ip", "route", "show", "default")
    assert (network.path / "resolv.conf").read_text() == resolver
    assert network.has("2001:db8:5:", "192.0.2.")
    assert NodeStateDirectory(network.state).unproven("eth0") is None
    await change(network, QUICK.replace("::53", "::55"))  # another one is tried at once
    await network.until(lambda: "::55" in (network.path / "resolv.conf").read_text())
    await network.until(lambda: not applied(network)[-1].why)


async def test_a_probe_that_is_lost_is_rolled_back_and_one_that_never_answered_is_not_asked_for(
    network: Network,
) -> None:
    network.plan = PROBED
    network.serve()
    network.live()
    await settled(network)  # nobody answers for the probe, and nothing answered before
    away = ("2001:db8:ffff::1/128", "2001:db8:5::1/64", "fe80::9/64")
    network.agents.ip([f"address add {each} dev net nodad" for each in away])
    stranger = network.another("stranger")  # is there, and leads nowhere
    stranger.ip(["address add fe80::7/64 dev eth0 nodad"])
    await change(network, PROBED.replace('"fe80::1"', '"fe80::9"'))
    await network.until(lambda: defaults(network) == ["fe80::9"])
    await network.until(lambda: NodeStateDirectory(network.state).unproven("eth0") is None)
    await change(network, PROBED.replace('"fe80::1"', '"fe80::7"'))
    await network.until(lambda: applied(network)[-1].why == "probe")
    assert defaults(network) == ["fe80::9"]


@pytest.mark.parametrize("step", [*STEPS, *LAST_STEPS])
async def test_an_agent_that_is_killed_at_any_step_leaves_a_node_that_can_be_reached(
    network: Network, step: str
) -> None:
    """The next one goes back first, and comes to what is wanted."""
    network.plan = QUICK
    network.node.ip(["address add 198.51.100.7/24 dev eth0", "address add 2001:db8:7::7/64 dev eth0 nodad"])
    network.serve()
    settings = network.settings()
    process = started(network, step, settings.state, settings.root_certificate, settings.resolv_conf)
    try:
        deadline = time.monotonic() + 20
        while process.poll() is None and time.monotonic() < deadline and not is_done(network):
            await network.until(lambda: process.poll() is not None or is_done(network))
    finally:
        if process.poll() is None:
            os.kill(process.pid, signal.SIGKILL)
        process.wait(10)
    assert network.has("2001:db8:5:") or network.has("2001:db8:7::7")
    assert network.has("192.0.2.") or "198.51.100.7" in network.node.run("ip", "address", "show", "dev", "eth0")
    network.live()
    await network.until(lambda: is_done(network))
    assert NodeStateDirectory(network.state).unproven("eth0") is None
    assert defaults(network) == ["fe80::1"]


def started(network: Network, *words: str | Path) -> subprocess.Popen[bytes]:
    """A Node Agent that kills itself when it comes to a step."""
    with network.node.entered():
        nothing = subprocess.DEVNULL
        return subprocess.Popen([sys.executable, "-c", RUN, *words], stderr=nothing, stdout=nothing)


def is_done(network: Network) -> bool:
    there = network.node.run("ip", "address", "show", "dev", "eth0")
    return network.has("2001:db8:5:", "192.0.2.") and "2001:db8:7::7" not in there and "198.51.100.7" not in there


async def test_after_a_reboot_what_was_proven_is_applied_and_not_what_was_tried(
    network: Network, tmp_path: Path
) -> None:
    network.plan = QUICK.replace("confirm = 3", "confirm = 3600")
    network.serve()
    first = network.live()
    await settled(network)
    await change(network, WRONG.replace("confirm = 3", "confirm = 3600"))
    await network.until(lambda: defaults(network) == ["fe80::dead"])
    first.stop()  # and the machine is off
    directory = NodeStateDirectory(network.state)
    unproven = directory.unproven("eth0")
    assert unproven is not None
    (network.state / "unproven.eth0").write_bytes(
        (network.state / "unproven.eth0").read_bytes().replace(unproven.boot.encode(), b"x" * len(unproven.boot))
    )
    network.node.ip(["link set dev eth0 down", "link set dev eth0 up", "address flush dev eth0 scope global"])
    network.live()
    await network.until(lambda: network.has("2001:db8:5:", "192.0.2.") and defaults(network) == ["fe80::1"])


async def test_another_change_while_one_is_unproven_has_to_prove_as_much(network: Network) -> None:
    network.plan = QUICK
    network.serve()
    network.live()
    await settled(network)
    await change(network, WRONG)
    await network.until(lambda: applied(network)[-1].unproven)
    await change(network, WRONG.replace("::54", "::56"))  # as wrong as the one before
    await network.until(lambda: bool(applied(network)[-1].why) or "::56" in resolved(network))
    await network.until(lambda: not applied(network)[-1].unproven)
    assert applied(network)[-1].why == "gateway"
    assert defaults(network) == ["fe80::1"]
    assert "::56" not in resolved(network)


def resolved(network: Network) -> str:
    return (network.path / "resolv.conf").read_text()
