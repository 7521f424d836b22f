"""What docs/subscribers.md shows is run: its subscribers, its configuration, its entry points."""

from __future__ import annotations

import asyncio
import base64
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from dnms.bus.memory import MemoryLog
from dnms.disk.subscriber_state import SubscriberState
from dnms.events.address import AddressReleased
from dnms.events.effect import EffectDelayed
from dnms.events.ip import parse_address
from dnms.subscribers.exec.program import Program
from dnms.subscribers.firewall.examples import DESK, leased, ledger, site
from dnms.subscribers.installed import GROUP
from dnms.subscribers.runner import Runner
from dnms.subscribers.subscriber import Happened, Local
from dnms.subscribers.webhook.endpoint import Endpoint
from tests.contracts.subscribers.calls import Frail, calling
from tests.contracts.subscribers.logs import SITE, write
from tests.house.tree import ROOT

DOCUMENT = (ROOT / "docs" / "subscribers.md").read_text()
STATE, CALL = re.findall(r"^```python\n(.*?)^```", DOCUMENT, re.MULTILINE | re.DOTALL)
LINES = 45
"""In which each of the two is written, with its imports; without them they are some 30."""
EXEC, WEBHOOK, PROJECT = re.findall(r"^```toml file=\S+\n(.*?)^```", DOCUMENT, re.MULTILINE | re.DOTALL)
PATIENCE = 20.0


def written(text: str) -> dict[str, Any]:
    """The module that the document shows."""
    module: dict[str, Any] = {"__name__": "our_package"}
    exec(compile(text, "docs/subscribers.md", "exec"), module)
    return module


async def test_the_one_that_keeps_a_state_does(tmp_path: Path) -> None:
    module = written(STATE)
    directory = tmp_path / "leased"
    directory.mkdir()
    (directory / "README").touch()  # not ours: no address
    (directory / "2001:db8::dead").touch()  # of a former life
    module["DIRECTORY"] = directory
    log = MemoryLog(SITE, log_id="one", now=lambda: 0)

    async def until(*names: str) -> None:
        async with asyncio.timeout(PATIENCE):
            while {path.name for path in directory.iterdir()} != {"README", *names}:  # noqa: ASYNC110
                await asyncio.sleep(0.005)

    state = SubscriberState(tmp_path, "leased")
    runner = Runner(log, module["LEASED"], state, local=Local(site=SITE), period=3_600)
    stop = asyncio.Event()
    task = asyncio.create_task(runner.run(stop))
    await runner.settled.wait()
    assert (directory / "2001:db8::dead").exists()  # without a plan nothing is dropped
    await write(log, [Happened("plan", (site(),)), ledger(leased(DESK, "2001:db8::5"), leased(DESK, "2001:db8::6"))])
    await until("2001:db8::5", "2001:db8::6")
    await write(log, [ledger(AddressReleased(address=parse_address("2001:db8::5"), client=DESK, iaid=1))])
    await until("2001:db8::6")
    stop.set()
    await task


async def test_the_one_that_calls_does(tmp_path: Path) -> None:
    heard: list[str] = []
    rung = asyncio.Event()

    async def ring(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append((await reader.readline()).decode())
        writer.close()
        rung.set()

    module = written(CALL.replace("/run/bell", str(tmp_path / "bell")))
    log = Frail()
    async with calling(log, module["BELL"].caller(Local(site=SITE)), tmp_path):
        sequence = await log.arrived(1, "lan")
        async with asyncio.timeout(PATIENCE):
            while not log.of(EffectDelayed):  # noqa: ASYNC110  # nobody hears the bell yet
                await asyncio.sleep(0.01)
        async with await asyncio.start_unix_server(ring, tmp_path / "bell"), asyncio.timeout(PATIENCE):
            await rung.wait()
    assert heard == [f"one:{sequence}.0 lan\n"]


@pytest.mark.parametrize("text", [STATE, CALL], ids=["state", "call"])
def test_each_is_short(text: str) -> None:
    assert len([line for line in text.splitlines() if line.strip()]) <= LINES


def test_the_configuration_is_taken(tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    (tmp_path / "webhook.secret").write_text("whsec_" + base64.b64encode(bytes(32)).decode())
    config = tmp_path / "calls.toml"
    config.write_text(EXEC.replace("/usr/local/sbin/on-prefix", str(program)) + WEBHOOK)
    local = Local(site=SITE, config=config)
    assert "prefix.released" in Program.of(local).kinds
    assert "node.arrived" in Endpoint.of(local).kinds


def test_the_entry_points_name_what_is_shown() -> None:
    named = tomllib.loads(PROJECT)["project"]["entry-points"][GROUP]
    for text, attribute in ((STATE, "LEASED"), (CALL, "BELL")):
        subscriber = written(text)[attribute]
        assert named[subscriber.name] == f"our_package:{attribute}"
