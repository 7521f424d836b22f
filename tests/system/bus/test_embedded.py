"""The embedded server as a process: it lives with its parent, comes back, keeps its data, and says what is wrong."""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import socket
import sys
from pathlib import Path

import pytest

from dnms.bus.append import append
from dnms.bus.embedded import EmbeddedServer, EmbeddedServerError
from dnms.bus.jetstream import connect
from dnms.bus.port import Denied, Unanswered, Unavailable

DEADLINE = 30.0


async def until_gone(pid: int) -> None:
    """Wait until a process has ended, whoever's child it is."""
    watched = os.pidfd_open(pid)
    gone = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_reader(watched, gone.set)
    try:
        async with asyncio.timeout(DEADLINE):
            await gone.wait()
    finally:
        loop.remove_reader(watched)
        os.close(watched)


async def test_it_keeps_its_data(tmp_path: Path) -> None:
    log_ids = set()
    for before in range(3):
        async with EmbeddedServer(tmp_path, token="t") as server:
            log = await connect(server.url, "here", token="t")
            assert await log.end() == before
            await append(log, "dnms.here.plan", b"%d" % before, expected=before)
            log_ids.add(log.log_id)
            await log.close()
        assert server.pid is None
    assert len(log_ids) == 1


async def test_it_is_started_again_on_the_same_port(server: EmbeddedServer, token: str) -> None:
    log = await connect(server.url, "here", token=token)
    url, last = server.url, 0
    for crash in range(3):
        last = await append(log, "dnms.here.plan", b"%d" % crash, expected=last)
        assert server.pid is not None
        os.kill(server.pid, signal.SIGKILL)
    assert await append(log, "dnms.here.plan", b"last", expected=last, patience=DEADLINE) == 4
    assert (server.url, server.restarts) == (url, 3)
    await log.close()


async def test_it_dies_with_its_parent_and_its_directory_is_free_then(tmp_path: Path) -> None:
    program = (
        "import asyncio, sys\n"
        "from pathlib import Path\n"
        "from dnms.bus.embedded import EmbeddedServer\n"
        "async def main():\n"
        "    async with EmbeddedServer(Path(sys.argv[1]), token='t') as server:\n"
        "        print(server.pid, flush=True)\n"
        "        await asyncio.sleep(3600)\n"
        "asyncio.run(main())\n"
    )
    parent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, tmp_path / "log", stdout=asyncio.subprocess.PIPE
    )
    assert parent.stdout is not None
    child = int(await asyncio.wait_for(parent.stdout.readline(), DEADLINE))
    ending = asyncio.create_task(until_gone(child))
    parent.kill()
    await parent.wait()
    async with EmbeddedServer(tmp_path / "log", token="t") as server:  # waits for the other to be gone
        assert server.pid != child
    await ending


async def test_a_wrong_token_is_refused(server: EmbeddedServer) -> None:
    with pytest.raises(Denied, match="refused the token"):
        await connect(server.url, "here", token="another")
    with pytest.raises(Denied, match="refused the token"):
        await connect(server.url, "here", token=None)


async def test_no_server_is_told_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dnms.bus.jetstream.CONNECT_PATIENCE", 0.2)
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        with pytest.raises(Unavailable, match=r"no connection to the bus at nats://127\.0\.0\.1:") as told:
            await connect(f"nats://127.0.0.1:{unused.getsockname()[1]}", "here", token="t")
    assert "\n" not in str(told.value)


async def refused(directory: Path, host: str = "127.0.0.1", port: int = 0) -> str:
    """Why it does not start; one line."""
    server = EmbeddedServer(directory, token="t", host=host, port=port)
    with pytest.raises(EmbeddedServerError) as told:
        await server.start()
    assert server.pid is None
    assert "\n" not in str(told.value)
    return str(told.value)


async def test_a_port_in_use_is_told(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert f"port {port} of 127.0.0.1 is in use" in await refused(tmp_path, port=port)


async def test_an_address_that_is_not_here_is_told(tmp_path: Path) -> None:
    assert "has no address 192.0.2.1" in await refused(tmp_path, host="192.0.2.1")


async def test_a_directory_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert "cannot write to the data directory" in await refused(tmp_path / "file")
    assert "cannot write to the data directory" in await refused(Path("/proc/dnms"))


async def test_a_directory_in_use_is_told(server: EmbeddedServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dnms.bus.embedded.LOCK_PATIENCE", 0.1)
    assert "another nats-server serves" in await refused(server.directory)


async def test_a_directory_of_a_newer_server_is_refused(tmp_path: Path) -> None:
    (tmp_path / "version").write_text("99.1.0")
    assert "was written by nats-server 99.1.0" in await refused(tmp_path)
    (tmp_path / "version").write_text("nonsense")
    assert "holds no version" in await refused(tmp_path)


async def test_a_full_disk_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dnms.bus.embedded.MIN_FREE", 1 << 60)
    assert "is full" in await refused(tmp_path)


async def test_it_is_stopped_before_the_disk_is_full_and_comes_back(
    server: EmbeddedServer, token: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = await connect(server.url, "here", token=token)
    last = await append(log, "dnms.here.plan", b"before", expected=0)
    assert server.pid is not None
    ending = asyncio.create_task(until_gone(server.pid))
    monkeypatch.setattr("dnms.bus.embedded.MIN_FREE", 1 << 60)
    monkeypatch.setattr("dnms.bus.embedded.LOW", 1 << 60)
    await ending
    with pytest.raises(Unavailable, match="no connection to the bus"):
        await append(log, "dnms.here.plan", b"lost", expected=last, patience=0.5)
    monkeypatch.undo()
    assert await append(log, "dnms.here.plan", b"after", expected=last, patience=DEADLINE) == 2
    await log.close()


async def test_it_is_started_again_when_it_could_not_write_for_a_moment(server: EmbeddedServer, token: str) -> None:
    log = await connect(server.url, "here", token=token)
    last = await append(log, "dnms.here.plan", b"before", expected=0)
    assert server.pid is not None
    unlimited = resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (1, resource.RLIM_INFINITY))  # as a full disk
    with pytest.raises(Unanswered):
        await log.store("dnms.here.plan", b"during", expected=last)
    resource.prlimit(server.pid, resource.RLIMIT_FSIZE, unlimited)
    assert await append(log, "dnms.here.plan", b"after", expected=last, patience=DEADLINE) == last + 1
    assert server.restarts == 1
    await log.close()
