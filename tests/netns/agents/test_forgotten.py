"""A machine that was here, with real processes on a real link, and is forgotten: no file says whose it was."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from dnms.linux.namespaces import Namespace
from tests.netns.agents.conftest import Network

DNMS = str(Path(sys.executable).with_name("dnms"))
NAME = "annas-notebook-of-the-year"
PATIENCE = 30.0  # seconds for a process to end in good order


@contextmanager
def process(namespace: Namespace, log: Path, *words: str | Path, says: bool = False) -> Iterator[str]:
    """A command in a namespace, until the end; what it says first."""
    with log.open("ab") as stderr, namespace.entered():
        running = subprocess.Popen([DNMS, *words], stdout=subprocess.PIPE, stderr=stderr, text=True)
    assert running.stdout is not None
    with running.stdout:
        try:
            yield running.stdout.readline() if says else ""
        finally:
            running.send_signal(signal.SIGTERM)
            code = running.wait(PATIENCE)
    assert code == 0, log.read_text()


def holding(directories: list[Path], wanted: list[bytes]) -> list[str]:
    """The files that have some of it."""
    files = [path for directory in directories for path in directory.rglob("*") if path.is_file()]
    return sorted(str(path) for path in files if any(one in path.read_bytes() for one in wanted))


@pytest.fixture
def logs(tmp_path: Path) -> Path:
    directory = tmp_path / "logs"
    directory.mkdir()
    return directory


async def test_no_file_of_the_site_or_of_an_agent_says_whose_it_was(
    network: Network, tmp_path: Path, logs: Path
) -> None:
    site, agent, archive = network.site.path, tmp_path / "agent", tmp_path / "archive"
    (tmp_path / "plan.toml").write_text(network.plan)
    (tmp_path / "resolv.conf").touch()
    network.agents.set_up("lo")
    ports = ("--listen", "127.0.0.1:0", "--bus-listen", "127.0.0.1:0", "-o", "json")
    with ExitStack() as running:
        serving = process(network.agents, logs / "serve", "serve", "--site", site, *ports, says=True)
        where = json.loads(running.enter_context(serving))

        def asked(*words: str | Path) -> Any:
            said = network.agents.run(DNMS, *map(str, words), "--site", str(site), "-o", "json")
            return json.loads(said)

        def listed() -> list[dict[str, Any]]:
            found: list[dict[str, Any]] = asked("node", "list", "--api", where["api"])
            return found

        asked("plan", "apply", tmp_path / "plan.toml", "--api", where["api"])
        on_link = ("--interface", "net", "--subnet", "office", "--name", "a1", "--state", agent)
        serves = process(
            network.agents, logs / "agent", "subnet-agent", *on_link, "--site", site, "--bus", where["bus"]
        )
        with serves:
            lives = process(
                network.node,
                tmp_path / "node.log",
                *("node-agent", "--interface", "eth0", "--name", NAME, "--state", network.state),
                *("--root-certificate", network.site.root_certificate, "--resolv-conf", tmp_path / "resolv.conf"),
            )
            with lives:
                await network.until(lambda: network.has("2001:db8:5::", "192.0.2."))
                await network.until(lambda: [node["name"] for node in listed()] == [NAME])
            [node] = listed()
            duid, hardware = (bytes.fromhex(text.replace(":", "")) for text in (node["duid"], node["hardware"][0]))
            texts = [each for value in (duid, hardware) for each in (value.hex(), value.hex(":"))]
            mine = [NAME.encode(), duid, hardware, *(text.encode() for text in texts)]
            assert holding([site], mine)  # else nothing is looked for
            await network.until(lambda: listed()[0]["session"] == "closed")
            asked("node", "forget", NAME, "--personal", "--api", where["api"])
            asked("log", "archive", archive, "--once", "--bus", where["bus"])
            assert listed() == []
        assert list(agent.glob("snapshot-*"))
        assert list(agent.glob("journal-*"))
        assert holding([site, agent, archive, logs], mine) == []
        assert "(forgotten)" in json.dumps(asked("event", "list", "--api", where["api"]))
    assert holding([site, agent, archive, logs], mine) == []
