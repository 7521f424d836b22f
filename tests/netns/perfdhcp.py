"""Kea's perfdhcp (Debian's kea-admin): many DHCP clients at once, of which each comes once."""

from __future__ import annotations

import re
import signal
import struct
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec

from dnms.linux.namespaces import Namespace
from tests.netns import debian

RATE = 200  # exchanges that are begun in a second
LOST = 40  # seconds after which it takes an answer for lost, and for which it waits for those that are out at its end

_UNREAD_4, _UNREAD_6 = 224, 65_001
"""Options that no server reads: perfdhcp cannot but write down who has offered, and does so in their values."""

_MAGIC = b"\x63\x82\x53\x63"
_HARDWARE = bytes.fromhex("020100000000")  # of the first client, where it is said who they are


class Told(msgspec.Struct, frozen=True):
    """What it says at its end, of the first halves of its exchanges and of the second ones."""

    sent: tuple[int, ...]
    received: tuple[int, ...]
    addresses: tuple[tuple[str, ...], ...]  # offered, and given


class Load:
    """One that runs."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self._process = process
        self._log = log

    @property
    def is_over(self) -> bool:
        """Whether it has all that it waits for."""
        return self._process.poll() is not None

    def told(self) -> Told:
        """What it says; it ends for that if it has not."""
        self.stop()
        text = self._log.read_text()
        assert "***Statistics" in text, text
        sent, received = (
            tuple(int(each) for each in re.findall(rf"^{word} packets: (\d+)$", text, re.M))
            for word in ("sent", "received")
        )
        _, *lists = re.split(r"^\*\*\*Leases for .*$", text, flags=re.M)
        addresses = tuple(tuple(re.findall(r"^[0-9a-f:]*,([0-9a-f.:]+),$", each, re.M)) for each in lists)
        return Told(sent=sent, received=received, addresses=addresses)

    def stop(self) -> None:
        """Have it end, wherever it is."""
        self._process.send_signal(signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(10)
        self._process.kill()
        self._process.wait(5)


@contextmanager
def perfdhcp(machine: Namespace, root: Path, *words: str, family: int, clients: int, to: str) -> Iterator[Load]:
    """So many clients at eth0, that ask this server, "all" by multicast. Words are for it alone.

    Without a word about them, its clients are others than those of `naming4` and `naming6`. It ends by itself once it
    has all answers. Its DHCPv4 clients are behind a relay, which it is itself.
    """
    program = debian.program("kea-admin", "perfdhcp")
    number = str(clients)
    command = [str(program), f"-{family}", "-l", "eth0", "-r", str(RATE), "-R", number, "-n", number, "-n", number]
    command += ["-d", str(LOST), "-W", str(LOST * 1_000_000), "-x", "l"]
    log = root / "perfdhcp.log"
    with machine.entered(), log.open("wb") as output:
        process = subprocess.Popen(
            [*command, *words, to],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=debian.environment(),
        )
    load = Load(process, log)
    try:
        yield load
    finally:
        load.stop()


def naming4(root: Path, server: bytes, *, relay: bytes) -> tuple[str, ...]:
    """Words by which its DHCPv4 clients request from the server of this id, whoever has offered."""
    fixed = struct.pack("!4B8s12s4s16s192s4s", 1, 1, 6, 1, bytes(8), bytes(12), relay, bytes(16), bytes(192), _MAGIC)
    request = fixed + bytes([53, 1, 3, 54, 4]) + server
    wanted = len(request)
    request += bytes([50, 4, 0, 0, 0, 0, _UNREAD_4, 6])
    unread = len(request)
    request += bytes(6) + b"\xff"
    words = _templates(root, 4, fixed + bytes([53, 1, 1, 255]), request)
    return *words, *_offsets(transaction=4, client=(33, 33), elapsed=8, server=unread, wanted=wanted)


def naming6(root: Path, server: bytes) -> tuple[str, ...]:
    """Words by which its DHCPv6 clients request from the server of this id, whoever has advertised."""
    client = _option6(1, b"\x00\x03\x00\x01" + _HARDWARE)
    solicit = b"\x01\0\0\0" + client + _option6(3, bytes(12))
    request = b"\x03\0\0\0" + client + _option6(2, server)
    wanted = len(request)
    request += _option6(3, bytes(12) + _option6(5, bytes(24)))  # as long as one with an address, which it becomes
    unread = len(request) + 4
    request += _option6(_UNREAD_6, bytes(200))
    last = 4 + len(client) - 1
    words = _templates(root, 6, solicit, request)
    return *words, *_offsets(transaction=1, client=(last, last), elapsed=unread, server=unread + 4, wanted=wanted)


def _option6(code: int, value: bytes) -> bytes:
    return struct.pack("!HH", code, len(value)) + value


def _templates(root: Path, family: int, *messages: bytes) -> tuple[str, ...]:
    words: list[str] = []
    for number, message in enumerate(messages):
        path = root / f"dhcp{family}-{number}.hex"
        path.write_text(message.hex())
        words += ["-T", str(path)]
    return tuple(words)


def _offsets(*, transaction: int, client: tuple[int, int], elapsed: int, server: int, wanted: int) -> tuple[str, ...]:
    """Where perfdhcp writes what it has to say into the two messages; of the client, the last byte."""
    words = [word for offset in client for word in ("-X", str(transaction), "-O", str(offset))]
    return "-b", f"mac={_HARDWARE.hex(':')}", *words, "-E", str(elapsed), "-S", str(server), "-I", str(wanted)
