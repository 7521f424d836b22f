"""What the firewall is told on its machine."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from dnms.subscribers.firewall.options import Options, options_of
from dnms.subscribers.firewall.reaching import reaches
from dnms.subscribers.subscriber import Local, OptionsError


def given(directory: Path, text: str, **fields: object) -> Options:
    config = directory / "subscribers.toml"
    config.write_text(text)
    return options_of(Local(site="example", config=config, **fields))  # type: ignore[arg-type]  # of each test


def test_nothing_is_needed(tmp_path: Path) -> None:
    assert options_of(Local(site="example")) == Options()
    assert options_of(Local(site="example", interfaces={"home": "eth1"})).guarded == {}  # they may be for another
    assert given(tmp_path, "[webhook]\nurl = 1\n") == Options()


def test_links_are_those_of_the_command_line_or_of_the_file(tmp_path: Path) -> None:
    links = {"home": "eth1"}
    assert given(tmp_path, "[firewall]\nguard = true", interfaces=links).guarded == {"home": ("eth1",)}
    file = '[firewall]\nguard = { home = ["vnet*", "br0.7"] }\nbridge = true'
    found = given(tmp_path, file, interfaces=links)
    assert found.guarded == {"home": ("vnet*", "br0.7")}
    assert found.tables == ("inet", "bridge")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[firewall", "is not TOML"),
        ("[firewall]\nports = 1", "unknown field `ports`; known are guard, bridge, input, confirm"),
        ("[firewall]\nconfirm = 0", "$.confirm"),
        ("[firewall]\nguard = true", "--interface SUBNET=INTERFACE names: give some"),
        ("[firewall]\nguard = { home = ['eth1\" drop'] }", "of subnet 'home' is no interface"),
        ("[firewall]\nguard = { home = ['an-interface-with-a-long-name'] }", "is no interface"),
        ("[firewall]\nguard = { Home = ['eth1'] }", "in [firewall]"),
        ("[firewall]\ninput = true", "`input` needs a bus"),
    ],
)
def test_what_is_wrong_says_what_to_give(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(OptionsError) as error:
        given(tmp_path, text)
    assert said in str(error.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(OptionsError, match=r"cannot read .*none\.toml"):
        options_of(Local(site="example", config=tmp_path / "none.toml"))


@pytest.mark.parametrize(("greeting", "heard"), [(b'INFO {"server_id":"x"}\r\n', True), (b"SSH-2.0-OpenSSH", False)])
async def test_a_bus_is_reached_when_it_greets(greeting: bytes, heard: bool) -> None:
    async def greet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(greeting)
        writer.close()

    server = await asyncio.start_server(greet, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        assert await reaches(f"nats://127.0.0.1:1,nats://127.0.0.1:{port}", 0.5) == heard
