"""`dnms node forget --personal` as an operator meets it: afterwards no file of the site has what is personal."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path
from typing import cast

import msgspec
import pytest

from dnms.bus import jetstream
from dnms.bus.append import append
from dnms.bus.port import Batch, Log
from dnms.disk.site import Site
from dnms.domain.identity import duid_of_hardware
from dnms.events import codec, subjects
from dnms.events.commit import Commit
from dnms.events.configuration import Link, Snapshot
from dnms.events.node import NodeForgotten, NodeIdentified
from dnms.events.recorded import Event, Personal
from dnms.events.seen import ConfigurationRegistered
from tests.system.cli.conftest import NAME, NOON, Served, dnms, serving

NODE = "annas-notebook-of-the-year"
OTHER = "berts-tower"
MAC = bytes.fromhex("025e10c0ffee")
OTHER_MAC = bytes.fromhex("025e10bada55")
WAITING = 10.0  # seconds


def forms(name: str, mac: bytes) -> list[bytes]:
    """What is personal, as bytes and as the text that people read."""
    texts = [mac.hex(), mac.hex(":"), mac.hex("-")]
    return [name.encode(), mac, *(text.encode() for text in texts)]


def holding(directory: Path, wanted: list[bytes]) -> list[str]:
    """The files below a directory that have some of it."""
    files = [path for path in directory.rglob("*") if path.is_file()]
    return sorted(str(path.relative_to(directory)) for path in files if any(one in path.read_bytes() for one in wanted))


def asked(served: Served, *words: str | Path) -> dict[str, object]:
    done = dnms(*words, "-o", "json", environment=served.environment)
    assert done.code == 0, done.err
    found: dict[str, object] = json.loads(done.out)
    return found


async def last(log: Log, subject: str) -> int:
    """The sequence of the newest message on a subject; 0 if there is none."""
    follow = cast("AsyncGenerator[Batch, None]", log.follow([subject], after=0))
    async with aclosing(follow) as batches:
        async for batch in batches:
            return batch.records[-1].sequence if batch.records else 0
    return 0


def register(served: Served, name: str, mac: bytes, *, sealed: bool = True) -> bytes:
    """What an agent writes of a node that comes: who it is, and its whole configuration."""

    async def registered() -> bytes:
        site = Site.load(served.directory)
        log = await jetstream.connect(served.bus, site.name, token=site.bus_token)
        duid = b"\x00\x04" + mac + bytes(10)
        client = site.client_id(duid)
        snapshot = Snapshot(links=(Link(index=2, name="eth0", hardware=Personal(mac)),))
        events: list[tuple[str, Event]] = [
            (
                subjects.node(site.name, client),
                NodeIdentified(client=client, duid=Personal(duid), name=Personal(name), hardware=(Personal(mac),)),
            ),
            (
                subjects.seen(site.name, "office", client.hex()[:8]),
                ConfigurationRegistered(client=client, digest=bytes(32), snapshot=snapshot),
            ),
        ]
        try:
            for subject, event in events:
                [stored] = await log.keys.seal([event], patience=WAITING) if sealed else [event]
                before = await last(log, subject)  # two clients may have one shard
                commit = Commit(id=client, time=NOON, predecessor=before, actor="agent/east", events=(stored,))
                await append(log, subject, codec.encode(commit), expected=commit.predecessor)
            return client
        finally:
            await log.close()

    return asyncio.run(registered())


@pytest.fixture
def site(tmp_path: Path) -> Path:
    made = dnms("init", NAME, "--site", tmp_path / "site")
    assert made.code == 0, made.err
    return tmp_path / "site"


def test_nothing_personal_is_in_any_file_afterwards(site: Path, tmp_path: Path) -> None:
    mine, others = forms(NODE, MAC), forms(OTHER, OTHER_MAC)
    with serving(site) as served:
        asked(served, "node", "add", NODE, "--mac", MAC.hex(":"))
        asked(served, "node", "add", OTHER, "--mac", OTHER_MAC.hex(":"))
        entry = Site.load(site).client_id(duid_of_hardware(MAC))
        client = register(served, NODE, MAC)
        asked(served, "node", "join", client.hex(), entry.hex())
        register(served, OTHER, OTHER_MAC)
        shown = json.dumps(asked(served, "event", "list"))
        assert NODE in shown
        assert MAC.hex(":") in shown
        before = holding(site, mine)
        assert any("views" in path for path in before), before  # else nothing is looked for
        # In the log there is nothing from the beginning, whoever copies it and whenever.
        assert not any(path.startswith("log/") for path in before), before
        asked(served, "log", "archive", tmp_path / "archive", "--once", "--bus", served.bus)

        forgotten = asked(served, "node", "forget", NODE, "--personal")
        assert (forgotten["personal"], forgotten["in_clear"]) == (True, 0)
        assert holding(site, mine) == []
        asked(served, "log", "archive", tmp_path / "archive", "--once", "--bus", served.bus)
        asked(served, "log", "export", tmp_path / "exported", "--bus", served.bus)
        assert holding(tmp_path, mine) == []
        assert "views" in str(holding(site, others))
        shown = json.dumps(asked(served, "event", "list"))
        assert "(forgotten)" in shown
        assert OTHER in shown
        assert dnms("view", "verify", "--bus", served.bus, environment=served.environment).code == 0
        assert dnms("replay", "--decide", "--bus", served.bus, environment=served.environment).code == 0
        assert dnms("node", "show", NODE, environment=served.environment).code == 1
    assert holding(tmp_path, mine) == []
    # Folded anew, without its key, the views say the same.
    assert dnms("view", "rebuild", "--site", site).code == 0
    with serving(site) as served:
        assert json.dumps(asked(served, "event", "list")) == shown
        register_again = register(served, "anna-is-back", bytes.fromhex("025e10000001"))
        assert register_again != client
        assert "anna-is-back" in json.dumps(asked(served, "node", "list"))
    assert holding(tmp_path, mine) == []


def test_a_server_that_was_killed_before_the_key_was_destroyed_does_it_at_its_next_start(site: Path) -> None:
    async def say_so(served: Served, client: bytes) -> bytes:
        opened = Site.load(served.directory)
        log = await jetstream.connect(served.bus, opened.name, token=opened.bus_token)
        try:
            key = await log.keys.of(client)
            assert key is not None
            subject = subjects.node(opened.name, client)
            last = await log.first_after(subject, 0)
            assert last is not None
            event = NodeForgotten(client=client, personal=True, key=key.id)
            commit = Commit(id=bytes(16), time=NOON, predecessor=last.sequence, actor="operator/api", events=(event,))
            await append(log, subject, codec.encode(commit), expected=last.sequence)
            return key.secret
        finally:
            await log.close()

    with serving(site) as served:
        client = register(served, NODE, MAC)
        assert NODE in json.dumps(asked(served, "node", "list"))
    # Nobody folds it now, as the views are of another time and the bus is alone.
    with serving(site) as served:
        secret = asyncio.run(say_so(served, client))

    with serving(site) as served:

        async def gone() -> None:
            opened = Site.load(served.directory)
            log = await jetstream.connect(served.bus, opened.name, token=opened.bus_token)
            try:
                async with asyncio.timeout(WAITING):
                    while await log.keys.of(client) is not None:  # noqa: ASYNC110  # the store tells nobody
                        await asyncio.sleep(0.02)
            finally:
                await log.close()

        asyncio.run(gone())
    assert holding(site, [secret]) == []


def test_what_was_written_before_anything_was_sealed_is_told_of(site: Path) -> None:
    with serving(site) as served:
        register(served, NODE, MAC, sealed=False)
        assert NODE in json.dumps(asked(served, "node", "list"))
        done = dnms("node", "forget", NODE, "--personal", environment=served.environment)
        assert done.code == 0, done.err
        assert "1 events from before anything was sealed have it in clear, and stay in the log" in done.err
        assert NODE not in json.dumps(asked(served, "event", "list"))
    found = holding(site, forms(NODE, MAC))
    assert found
    assert all(path.startswith("log/") for path in found), found


def test_a_node_that_was_forgotten_before_is_named_by_its_client_id(site: Path) -> None:
    with serving(site) as served:
        client = register(served, NODE, MAC)
        asked(served, "node", "forget", NODE)
        assert NODE in json.dumps(asked(served, "event", "list"))
        asked(served, "node", "forget", client.hex(), "--personal")
        assert NODE not in json.dumps(asked(served, "event", "list"))
        assert dnms("node", "forget", client.hex(), "--personal", environment=served.environment).code != 0
    assert holding(site, forms(NODE, MAC)) == []


def test_keys_go_to_another_bus_beside_the_log(site: Path, tmp_path: Path) -> None:
    with serving(site) as served:
        register(served, NODE, MAC)
        register(served, OTHER, OTHER_MAC)
        asked(served, "log", "export", tmp_path / "log.dnms", "--bus", served.bus)
        copied = asked(served, "keys", "export", tmp_path / "keys.dnms", "--bus", served.bus)
        assert copied["keys"] == 2
    assert (tmp_path / "keys.dnms").stat().st_mode & 0o777 == 0o600
    opened = Site.load(site)
    opened.log_directory.rename(tmp_path / "log")
    for path in site.glob("views*"):
        path.unlink()
    assert holding(site, forms(NODE, MAC)) == []
    for words in (
        ("log", "import", str(tmp_path / "log.dnms")),
        ("keys", "import", str(tmp_path / "keys.dnms")),
        ("keys", "import", str(tmp_path / "keys.dnms")),
    ):
        done = dnms(*words, "--site", site, "-o", "json")
        assert done.code == 0, done.err
    with serving(site) as served:
        shown = json.dumps(asked(served, "node", "list"))
        assert NODE in shown
        assert OTHER in shown


def test_keys_that_cannot_be_copied_are_one_line(site: Path, tmp_path: Path) -> None:
    (tmp_path / "other").write_bytes(msgspec.msgpack.encode(["dnms keys 1", "elsewhere", []]))
    (tmp_path / "broken").write_bytes(b"no keys")
    for words, says in (
        (("keys", "import", str(tmp_path / "other")), "has the keys of the site 'elsewhere'"),
        (("keys", "import", str(tmp_path / "broken")), "is not what `dnms keys export` wrote"),
        (("keys", "import", str(tmp_path / "none")), "No such file"),
        (("keys", "export", str(tmp_path / "broken")), "no log of its own"),
    ):
        done = dnms(*words, "--site", site)
        assert done.code != 0
        assert says in done.err, done.err
