"""Many DHCP clients at a pace, each exchange of one question and one answer: `python -m bench.dhcp_client`.

perfdhcp has no pace of renewals alone, and none of Rapid Commit. Clients are numbered; they get their addresses by
whole exchanges before they renew. IPv4 clients come through a relay, which this is, as with perfdhcp. Prints JSON.
"""

from __future__ import annotations

import argparse
import select
import socket
import struct
import sys
import time
from collections.abc import Callable
from typing import Protocol

import msgspec

from bench.joins import percentile
from dnms.linux.multicast import widen

WAITING = 16 << 20  # bytes
FILL = 64  # exchanges under way while clients get their addresses
AGAIN, TRIES = 0.3, 20  # seconds, and how often what is lost is sent again then
LATE = 1.0  # seconds after which an answer counts as lost, as with perfdhcp
BURST = 8  # messages that are sent before answers are read

_IN6_ADDRESS, _IA_NA, _CLIENT, _SERVER, _RAPID = 5, 3, 1, 2, 14
_OPTION, _BOOTP = struct.Struct("!HH"), struct.Struct("!BBBBIHH4s4s4s4s16s192s4s")
_MAGIC = b"\x63\x82\x53\x63"


class Paced(msgspec.Struct, frozen=True):
    """What came of it."""

    sent: int
    received: int
    p50: float  # ms
    p99: float
    seconds: float  # in which it was sent


class Family(Protocol):
    """The messages of one family. `number` is a client's, `transaction` a message's."""

    def first(self, number: int, transaction: int, *, rapid: bool) -> bytes:
        """A Solicit or a Discover."""
        ...

    def request(self, number: int, transaction: int, answer: bytes) -> bytes:
        """What asks for what was offered."""
        ...

    def renewal(self, number: int, transaction: int, reply: bytes) -> bytes:
        """What asks again for what was given."""
        ...

    def transaction(self, data: bytes) -> int:
        """Of an answer."""
        ...

    def is_given(self, data: bytes) -> bool:
        """Whether an answer gives an address, for good."""
        ...


class Six:
    """DHCPv6 (RFC 8415), from one link-local address."""

    def first(self, number: int, transaction: int, *, rapid: bool) -> bytes:
        """A Solicit."""
        wanted = _option(_IA_NA, struct.pack("!III", 1, 0, 0))
        return self._message(1, number, transaction, wanted + (_option(_RAPID, b"") if rapid else b""))

    def request(self, number: int, transaction: int, answer: bytes) -> bytes:
        """A Request."""
        return self._message(3, number, transaction, _repeated(answer))

    def renewal(self, number: int, transaction: int, reply: bytes) -> bytes:
        """A Renew."""
        return self._message(5, number, transaction, _repeated(reply))

    def transaction(self, data: bytes) -> int:
        """Three bytes."""
        return int.from_bytes(data[1:4])

    def is_given(self, data: bytes) -> bool:
        """Whether it is a Reply with an address in it that lasts."""
        association = dict(_options(data[4:])).get(_IA_NA, b"") if data[:1] == b"\x07" else b""
        return any(code == _IN6_ADDRESS and any(value[20:24]) for code, value in _options(association[12:]))

    def _message(self, kind: int, number: int, transaction: int, options: bytes) -> bytes:
        client = _option(_CLIENT, b"\x00\x03\x00\x01\x02\x01" + number.to_bytes(4))
        told = _option(8, b"\0\0") + _option(6, b"\x00\x17\x00\x18")
        return bytes([kind]) + transaction.to_bytes(3) + client + options + told


class Four:
    """DHCPv4 (RFC 2131), through a relay with this address."""

    def __init__(self, relay: str) -> None:
        self._relay = socket.inet_aton(relay)

    def first(self, number: int, transaction: int, *, rapid: bool) -> bytes:
        """A Discover."""
        return self._message(number, transaction, bytes(4), b"\x35\x01\x01" + (b"\x50\x00" if rapid else b""))

    def request(self, number: int, transaction: int, answer: bytes) -> bytes:
        """A Request in SELECTING."""
        at = answer.index(b"\x36\x04", 240)  # the server id
        wanted = b"\x35\x01\x03" + answer[at : at + 6] + b"\x32\x04" + answer[16:20]
        return self._message(number, transaction, bytes(4), wanted)

    def renewal(self, number: int, transaction: int, reply: bytes) -> bytes:
        """A Request in RENEWING."""
        return self._message(number, transaction, reply[16:20], b"\x35\x01\x03")

    def transaction(self, data: bytes) -> int:
        """Four bytes."""
        return int.from_bytes(data[4:8])

    def is_given(self, data: bytes) -> bool:
        """Whether it is an ACK."""
        return b"\x35\x01\x05" in data[240:] and any(data[16:20])

    def _message(self, number: int, transaction: int, has: bytes, options: bytes) -> bytes:
        hardware = (b"\x02\x01" + number.to_bytes(4)).ljust(16, b"\0")
        fixed = (1, 1, 6, 1, transaction, 0, 0, has, bytes(4), bytes(4), self._relay, hardware, bytes(192), _MAGIC)
        return _BOOTP.pack(*fixed) + options + b"\x37\x04\x01\x03\x06\x0f\xff"


class Link:
    """The way to the server."""

    def __init__(self, kind: int, interface: str, relay: str, server: str) -> None:
        self.family: Family = Six() if kind == 6 else Four(relay)
        if kind == 6:
            self._socket = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
            self._socket.bind(("::", 546))
            self._to: tuple[object, ...] = ("ff02::1:2", 547, 0, socket.if_nametoindex(interface))
        else:
            self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            self._socket.bind((relay, 67))
            self._to = (server, 67)
        self._socket.setblocking(False)
        widen(self._socket, WAITING)

    def send(self, data: bytes) -> None:
        """One message."""
        self._socket.sendto(data, self._to)

    def received(self, within: float) -> list[bytes]:
        """What has come, or comes in these seconds."""
        found: list[bytes] = []
        if within and not select.select([self._socket], [], [], within)[0]:
            return found
        while True:
            try:
                found.append(self._socket.recv(2_048))
            except BlockingIOError:
                return found


def filled(link: Link, clients: int) -> dict[int, bytes]:
    """The replies by which so many clients got their addresses. RuntimeError if some get none."""
    family, given = link.family, dict[int, bytes]()
    waiting: dict[int, tuple[bytes, float, int]] = {}  # by client: what it has sent, when, and how often
    following = 0
    while len(given) < clients:
        while len(waiting) < FILL and following < clients:
            data = family.first(following, following << 1, rapid=False)
            waiting[following] = data, 0.0, 0
            following += 1
        now = time.monotonic()
        for number, (data, since, tries) in list(waiting.items()):
            if now - since > AGAIN:
                if tries >= TRIES:
                    raise RuntimeError(f"client {number} is not answered")
                link.send(data)
                waiting[number] = data, now, tries + 1
        for answer in link.received(0.05):
            number, is_second = divmod(family.transaction(answer), 2)
            if number not in waiting:
                continue
            if is_second and family.is_given(answer):
                given[number] = answer
                del waiting[number]
            elif not is_second:
                data = family.request(number, number << 1 | 1, answer)
                link.send(data)
                waiting[number] = data, time.monotonic(), 1
    return given


def paced(link: Link, message: Callable[[int], bytes], rate: float, seconds: float) -> Paced:
    """Send so many a second; `message` makes the one with this transaction."""
    family = link.family
    count = int(rate * seconds)
    sent_at = [0.0] * count
    took: list[float] = []
    sent = 0
    began = time.monotonic()
    while True:
        now = time.monotonic()
        due = min(count, int((now - began) * rate) + 1)
        for _ in range(min(BURST, due - sent)):
            sent_at[sent] = time.monotonic()
            link.send(message(sent))
            sent += 1
        for answer in link.received(0.0 if sent < due else 0.0002):
            number = family.transaction(answer)
            if number < sent and sent_at[number] and family.is_given(answer):
                if (latency := time.monotonic() - sent_at[number]) < LATE:
                    took.append(latency)
                sent_at[number] = 0.0
        if sent == count and (len(took) == count or time.monotonic() - began > seconds + LATE):
            break
    p50, p99 = (round(percentile(took, each) * 1_000, 3) if took else 0.0 for each in (50, 99))
    return Paced(sent=sent, received=len(took), p50=p50, p99=p99, seconds=seconds)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.dhcp_client")
    parser.add_argument("kind", choices=("rapid", "renew"))
    parser.add_argument("--family", type=int, choices=(4, 6), default=6)
    parser.add_argument("--interface", required=True)
    parser.add_argument("--relay", default="")
    parser.add_argument("--server", default="")
    parser.add_argument("--first", type=int, default=0, help="the number of the first client")
    parser.add_argument("--clients", type=int, default=1_000, help="that renew")
    parser.add_argument("--rate", type=float, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    given = parser.parse_args()
    link = Link(given.family, given.interface, given.relay, given.server)
    family = link.family
    if given.kind == "rapid":

        def message(transaction: int) -> bytes:
            return family.first(given.first + transaction, transaction, rapid=True)

    else:
        replies = filled(link, given.clients)

        def message(transaction: int) -> bytes:
            number = transaction % given.clients
            return family.renewal(number, transaction, replies[number])

    done = paced(link, message, given.rate, given.seconds)
    sys.stdout.buffer.write(msgspec.json.encode(done))


def _option(code: int, value: bytes) -> bytes:
    return _OPTION.pack(code, len(value)) + value


def _options(data: bytes) -> list[tuple[int, bytes]]:
    found, at = list[tuple[int, bytes]](), 0
    while at + 4 <= len(data):
        code, size = _OPTION.unpack_from(data, at)
        found.append((code, data[at + 4 : at + 4 + size]))
        at += 4 + size
    return found


def _repeated(answer: bytes) -> bytes:
    """The server and the association of an answer."""
    return b"".join(_option(code, value) for code, value in _options(answer[4:]) if code in (_SERVER, _IA_NA))


if __name__ == "__main__":
    main()
