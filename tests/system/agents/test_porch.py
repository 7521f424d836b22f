"""A Subnet Agent that is behind relays: whom it believes, on real sockets with the certificates of real sites."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from dnms.agents import door, tls
from dnms.agents.door import MAX_A_PEER, MAX_HANDSHAKES, Door
from dnms.agents.listening import Entered
from dnms.agents.subnet import porch as porch_module
from dnms.agents.subnet.porch import Porch, Trust
from dnms.disk.relay_credentials import CredentialsError, RelayCredentials, store
from dnms.disk.site import Site
from dnms.events.ip import parse_address
from dnms.wire import relaying
from dnms.wire.errors import Code
from dnms.wire.messages import AGENT_NAME
from dnms.wire.relaying import HEAD, Asking, Here, Refused, Relayed
from tests.system.agents.test_door import until

HERE = Here(site="s", subnet="branch", agent="one", load=3)
NODE = parse_address("fe80::5")


def now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)


def credentials(site: Site, folder: Path, name: str = "edge") -> RelayCredentials:
    directory = folder / f"{site.path.name}-{name}"
    store(site.issue_relay(name, at=now()), directory)
    return RelayCredentials.load(directory, at=now())


@pytest.fixture
def relay(site: Site, tmp_path: Path) -> RelayCredentials:
    return credentials(site, tmp_path)


def say(said: relaying.Said, own: RelayCredentials) -> bytes:
    return relaying.encode_said(said, certificate=own.certificate, sign=own.key.sign)


async def rest(reader: asyncio.StreamReader) -> bytes:
    """All that comes; a reset, as of who closes what has more to be read, is an end too."""
    answer = b""
    with contextlib.suppress(ConnectionResetError):
        async with asyncio.timeout(10):
            while data := await reader.read(65536):
                answer += data
    return answer


class Opened:
    """An agent's two doors, and who is in."""

    def __init__(self, porch: Porch, nodes: Door[Entered]) -> None:
        self.porch = porch
        self.nodes = nodes
        self.port = porch.listen(0)[1]  # of IPv4
        self.guests: list[tuple[str, str]] = []

    async def connected(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.port)

    async def answered(self, data: bytes) -> bytes:
        """All that comes back for these bytes."""
        reader, writer = await self.connected()
        writer.write(data)
        answer = await rest(reader)
        writer.transport.abort()
        return answer

    def counted(self) -> int:
        return sum(self.porch.dropped.values())


def porch_of(site: Site, relays: tuple[str, ...]) -> Porch:
    context = tls.serving(site.agent_certificate, site.agent_key)
    porch = Porch(context, Trust(site.root_certificate.read_bytes(), "branch", relays))
    porch.here = lambda: HERE
    return porch


@asynccontextmanager
async def opened(site: Site, *relays: str) -> AsyncIterator[Opened]:
    """Doors behind which a guest is told what it says, until it leaves."""

    async def serve(entered: Entered) -> None:
        made.guests.append((entered.peer, entered.relay))
        with contextlib.suppress(OSError):
            while data := await entered.reader.read(65536):
                entered.writer.write(data)
                await entered.writer.drain()
        entered.writer.close()

    porch = porch_of(site, relays or ("edge",))
    made = Opened(porch, Door(serve))
    running = [asyncio.create_task(porch.run()), asyncio.create_task(made.nodes.serve([porch]))]
    try:
        yield made
    finally:
        for task in reversed(running):
            task.cancel()
            await asyncio.wait((task,))
        await until(lambda: not made.nodes._guests and not made.nodes._handshakes)


class Tls:
    """A node's end of TLS, without a socket."""

    def __init__(self, site: Site) -> None:
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = tls.trusting(site.root_certificate).wrap_bio(self._in, self._out, server_hostname=AGENT_NAME)
        with contextlib.suppress(ssl.SSLWantReadError):
            self._tls.do_handshake()
        self.hello = self._out.read()

    async def speak(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, data: bytes) -> bytes:
        """Go on from its ClientHello, and say something; what comes back. ssl.SSLError; EOFError if it is cut off."""
        while True:
            try:
                self._tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                await self._more(reader)
        self._tls.write(data)
        writer.write(self._out.read())
        while True:
            try:
                return self._tls.read(100)
            except ssl.SSLWantReadError:
                await self._more(reader)

    async def _more(self, reader: asyncio.StreamReader) -> None:
        if not (data := await reader.read(65536)):
            raise EOFError
        self._in.write(data)


def passed(own: RelayCredentials, node: Tls, *, address: bytes = NODE, subnet: str = "branch") -> bytes:
    """What a relay sends for a node."""
    said = Relayed(subnet=subnet, node=address, interface="lan", hello=relaying.digest(node.hello))
    return say(said, own) + node.hello


def refusal(answer: bytes) -> Refused:
    head = relaying.decode_head(answer[:HEAD])
    refused = relaying.decode_answer(head, answer[HEAD:])
    assert isinstance(refused, Refused)
    return refused


@pytest.mark.parametrize("pieces", ["at once", "byte by byte"])
async def test_a_node_is_led_in_as_the_relay_has_seen_it(site: Site, relay: RelayCredentials, pieces: str) -> None:
    async with opened(site) as made:
        node = Tls(site)
        reader, writer = await made.connected()
        data = passed(relay, node)
        for piece in [data] if pieces == "at once" else [data[at : at + 1] for at in range(len(data))]:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0)
        assert await node.speak(reader, writer, b"hello") == b"hello"
        assert made.guests == [("fe80::5", "edge")]
        writer.close()
        await writer.wait_closed()


async def test_who_asks_is_told_who_is_there(site: Site, relay: RelayCredentials) -> None:
    async with opened(site) as made:
        answer = await made.answered(say(Asking(subnet="branch"), relay))
        assert relaying.decode_answer(relaying.decode_head(answer[:HEAD]), answer[HEAD:]) == HERE
        assert not made.guests


async def test_every_cut_of_a_header_is_counted_and_lets_nobody_in(
    site: Site, relay: RelayCredentials, descriptors: Callable[[], int]
) -> None:
    async with opened(site) as made:
        node = Tls(site)
        whole = passed(relay, node)
        cuts = [*range(1, HEAD + 3), *range(HEAD + 3, len(whole), 23), len(whole) - 1]
        for number, length in enumerate(cuts, 1):
            reader, writer = await made.connected()
            writer.write(whole[:length])
            writer.write_eof()
            assert await rest(reader) == b""
            writer.transport.abort()
            await until(lambda number=number: made.counted() == number)  # type: ignore[misc]
        assert made.porch.dropped == {Code.TRUNCATED: len(cuts)}
        assert not made.guests
        await until(lambda: not made.porch._door._peers)
    await until(lambda: descriptors() <= 0)


async def test_what_is_no_relay_is_not_answered(site: Site, relay: RelayCredentials) -> None:
    async with opened(site) as made:
        node = Tls(site)
        assert await made.answered(node.hello) == b""  # a node that is not on the link
        assert await made.answered(b"GET / HTTP/1.1\r\n\r\n") == b""
        assert await made.answered(b"DNMS\x01\x03\xff\xff" + bytes(100)) == b""
        assert made.porch.dropped == {Code.MAGIC: 2, Code.OVERSIZED: 1}


async def test_a_relay_is_believed_that_the_site_has_signed_for_and_the_agent_was_told_of(
    site: Site, relay: RelayCredentials, tmp_path: Path
) -> None:
    other = Site.create(tmp_path / "other", "s")
    unknown = credentials(site, tmp_path, "stranger")
    foreign = credentials(other, tmp_path)
    mixed = RelayCredentials("edge", relay.certificate, unknown.key)
    with capture_logs() as lines:
        async with opened(site) as made:
            for own, subnet, why in (
                (unknown, "branch", Code.NOT_AUTHORISED),
                (foreign, "branch", Code.UNTRUSTED),
                (mixed, "branch", Code.SIGNATURE),
                (relay, "home", Code.OTHER_SUBNET),
            ):
                for data in (passed(own, Tls(site), subnet=subnet), say(Asking(subnet=subnet), own)):
                    refused = refusal(await made.answered(data))
                    assert refused.code == why
                    assert refused.text
            assert not made.guests
            await until(lambda: made.counted() == 8)
    said = [line for line in lines if line["event"] == "relay refused"]
    assert [line["why"] for line in said] == [Code.NOT_AUTHORISED] * 2 + [Code.UNTRUSTED] * 2  # no more of one address
    assert "--relay stranger" in said[0]["text"]


async def test_an_agents_or_a_signers_certificate_is_none_of_a_relay(site: Site, relay: RelayCredentials) -> None:
    signer = site.signer()
    async with opened(site) as made:
        for pem in (site.agent_certificate.read_text(), signer.certificate.decode(), site.root_certificate.read_text()):
            own = RelayCredentials("edge", ssl.PEM_cert_to_DER_cert(pem), relay.key)
            assert refusal(await made.answered(say(Asking(subnet="branch"), own))).code == Code.UNTRUSTED


async def test_a_certificate_of_no_known_version_is_none_of_a_relay(site: Site, relay: RelayCredentials) -> None:
    version_3, version_2 = (bytes([0xA0, 3, 2, 1, number]) for number in (2, 1))
    assert version_3 in relay.certificate
    own = RelayCredentials("edge", relay.certificate.replace(version_3, version_2, 1), relay.key)
    async with opened(site) as made:
        assert refusal(await made.answered(say(Asking(subnet="branch"), own))).code == Code.UNTRUSTED
        await until(lambda: made.porch.dropped == {Code.UNTRUSTED: 1})


async def test_a_certificate_that_has_ended_is_none(site: Site, tmp_path: Path) -> None:
    then = now() - datetime.timedelta(days=1_000)
    store(site.issue_relay("edge", at=then), tmp_path / "old")
    with pytest.raises(CredentialsError, match="has ended on"):
        RelayCredentials.load(tmp_path / "old", at=now())
    own = RelayCredentials.load(tmp_path / "old", at=then)
    async with opened(site) as made:
        refused = refusal(await made.answered(say(Asking(subnet="branch"), own)))
        assert refused.code == Code.UNTRUSTED
        assert "not valid now" in refused.text


async def test_what_was_signed_for_one_connection_is_of_no_use_for_another(site: Site, relay: RelayCredentials) -> None:
    """Somebody on the way between both has all that they said."""
    async with opened(site) as made:
        node, attacker = Tls(site), Tls(site)
        data = passed(relay, node)
        # With a ClientHello of its own it is refused.
        stolen = data.removesuffix(node.hello) + attacker.hello
        assert refusal(await made.answered(stolen)).code == Code.SIGNATURE
        # With that of the node it cannot go on.
        reader, writer = await made.connected()
        writer.write(data)
        with pytest.raises((ssl.SSLError, EOFError)):
            await attacker.speak(reader, writer, b"hello")
        writer.close()
        await writer.wait_closed()
        assert not made.guests


async def test_a_clienthello_is_taken_once(
    site: Site, relay: RelayCredentials, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who has heard it and says it again and again would have all places of its node's address."""
    monkeypatch.setattr(porch_module, "MAX_HELLOS", 1)
    async with opened(site) as made:
        node, other = Tls(site), Tls(site)
        reader, writer = await made.connected()
        writer.write(passed(relay, node))
        assert await node.speak(reader, writer, b"hello") == b"hello"
        for _ in range(2):
            assert refusal(await made.answered(passed(relay, node))).code == Code.REPEATED
        another, its = await made.connected()
        its.write(passed(relay, other))
        assert await other.speak(another, its, b"hello") == b"hello"
        assert len(made.porch._hellos) == 1  # whatever comes
        for each in (writer, its):
            each.close()
            await each.wait_closed()


async def test_nobody_takes_a_relay_for_an_agent(site: Site, relay: RelayCredentials, tmp_path: Path) -> None:
    directory = tmp_path / f"{site.path.name}-edge"
    context = tls.serving(directory / "relay.pem", directory / "relay.key")
    server = await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", 0, ssl=context)
    port = server.sockets[0].getsockname()[1]
    try:
        with pytest.raises(ssl.SSLCertVerificationError):
            await tls.connect("127.0.0.1", port, tls.trusting(site.root_certificate))
    finally:
        server.close()
        await server.wait_closed()


async def test_who_says_nothing_or_little_keeps_no_relay_out(site: Site, relay: RelayCredentials) -> None:
    async with opened(site) as made:
        whole = passed(relay, Tls(site))
        silent = []
        for number in range(MAX_HANDSHAKES + 20):
            silent.append(await made.connected())
            silent[-1][1].write(whole[: number % (len(whole) - 1)])
        await until(lambda: made.porch.dropped["too-many-of-a-peer"] + made.porch.dropped["too-many-handshakes"] >= 20)
        # A relay at another address is answered: the oldest of the address that has the most gives way.
        reader, writer = await asyncio.open_connection("127.0.0.1", made.port, local_addr=("127.0.0.2", 0))
        writer.write(say(Asking(subnet="branch"), relay))
        assert await reader.readexactly(HEAD)
        writer.close()
        for _, each in silent:
            each.transport.abort()
        await until(lambda: not made.porch._door._peers)


async def test_who_takes_too_long_is_given_up(
    site: Site, relay: RelayCredentials, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(door, "HANDSHAKE_WITHIN", 0.2)
    async with opened(site) as made:
        node = Tls(site)
        whole = passed(relay, node)
        for data in (b"", whole[:30], whole.removesuffix(node.hello), whole[:-1]):
            assert await made.answered(data) == b""
        assert made.porch.dropped == {Code.TIMEOUT: 4}


async def test_the_bound_for_one_node_holds_behind_a_relay_and_for_no_other_node(
    site: Site, relay: RelayCredentials
) -> None:
    async with opened(site) as made:
        writers = []
        for _ in range(MAX_A_PEER):
            node = Tls(site)
            reader, writer = await made.connected()
            writer.write(passed(relay, node))
            assert await node.speak(reader, writer, b"x") == b"x"
            writers.append(writer)
        assert await made.answered(passed(relay, Tls(site))) == b""
        assert made.nodes.dropped["too-many-of-a-peer"] == 1
        other = Tls(site)
        reader, writer = await made.connected()
        writer.write(passed(relay, other, address=parse_address("fe80::6")))
        assert await other.speak(reader, writer, b"x") == b"x"
        for each in (*writers, writer):
            each.close()
            await each.wait_closed()


async def test_it_listens_in_both_families(site: Site, relay: RelayCredentials) -> None:
    porch = porch_of(site, ("edge",))
    ports = porch.listen(0)
    running = asyncio.create_task(porch.run())
    try:
        for host, port in zip(("::1", "127.0.0.1"), ports, strict=True):
            reader, writer = await asyncio.open_connection(host, port)
            writer.write(say(Asking(subnet="branch"), relay))
            assert (await reader.read()).startswith(b"DNMS")
            writer.close()
            await writer.wait_closed()
    finally:
        running.cancel()
        await asyncio.wait((running,))


def test_a_relay_has_a_name_as_long_as_any_other(site: Site, tmp_path: Path) -> None:
    assert credentials(site, tmp_path, "e" * 63).name == "e" * 63


def test_files_of_a_relay_are_not_written_over(site: Site, tmp_path: Path) -> None:
    store(site.issue_relay("edge", at=now()), tmp_path / "relay")
    before = (tmp_path / "relay" / "relay.key").read_bytes()
    with pytest.raises(CredentialsError, match="already; nothing was changed"):
        store(site.issue_relay("edge", at=now()), tmp_path / "relay")
    assert (tmp_path / "relay" / "relay.key").read_bytes() == before
    assert (tmp_path / "relay" / "relay.key").stat().st_mode & 0o777 == 0o600
    (tmp_path / "relay" / "relay.pem").write_text("damaged")
    with pytest.raises(CredentialsError, match="are damaged"):
        RelayCredentials.load(tmp_path / "relay", at=now())
    with pytest.raises(CredentialsError, match=r"cannot read .*relay\.pem: No such file"):
        RelayCredentials.load(tmp_path / "nowhere", at=now())
