"""A requesting router, with a clock and chance of the test's, and the test in the place of its servers."""

from __future__ import annotations

import math
from random import Random
from typing import Any

import msgspec

from dnms.events.ip import Prefix, parse_prefix
from dnms.wire.dhcp6.associations import IaPd, IaPrefix, StatusOption
from dnms.wire.dhcp6.client import Client
from dnms.wire.dhcp6.codes import Kind, Status
from dnms.wire.dhcp6.held import Held
from dnms.wire.dhcp6.messages import Message, decode, encode
from dnms.wire.dhcp6.options import Options

DUID, SERVER, OTHER = b"\x00\x04client", b"\x00\x04server", b"\x00\x04other"
IAID = 7
A, B, C = (parse_prefix(text) for text in ("2001:db8:100::/56", "2001:db8:200::/56", "2001:db8:300::/48"))


class Line:
    """A client, and the test in the place of its servers."""

    def __init__(self, *, length: int = 0, held: tuple[Held, ...] = (), seed: int = 1) -> None:
        self.now = 1_000.0
        self.client = Client(
            duid=DUID,
            iaid=IAID,
            chance=Random(seed),
            now=self.now,
            length=length,
            held=held,
            server=SERVER if held else b"",
        )
        self.asked: list[tuple[float, Message]] = []

    def pass_until(self, instant: float) -> list[Message]:
        """Let time pass up to there; what the client sends meanwhile."""
        begin = len(self.asked)
        while (due := self.client.deadline()) <= instant:
            self.now = max(due, self.now)
            self._collect()
        self.now = instant
        self._collect()
        return [message for _, message in self.asked[begin:]]

    def next(self) -> Message:
        """What it sends next, whenever that is."""
        for _ in range(100):
            begin = len(self.asked)
            self._collect()
            if len(self.asked) > begin:
                return self.asked[-1][1]
            assert not math.isinf(self.client.deadline())
            self.now = max(self.now, self.client.deadline())
        raise AssertionError("it sends nothing")

    def answer(
        self, kind: Kind, *prefixes: IaPrefix, server: bytes = SERVER, t1: int = 0, t2: int = 0, **said: Any
    ) -> None:
        """A server answers the newest message; `said` are options of the message, `status` is the association's."""
        status = said.pop("status", None)
        pd = IaPd(iaid=IAID, t1=t1, t2=t2, prefixes=prefixes, status=status)
        options = msgspec.structs.replace(Options(client_id=DUID, server_id=server, pd=(pd,)), **said)
        self.client.receive(encode(Message(int(kind), self.asked[-1][1].transaction, options)), self.now)

    def bind(self, *prefixes: IaPrefix, t1: int = 100, t2: int = 160) -> None:
        self.next()
        self.answer(Kind.REPLY, *prefixes, t1=t1, t2=t2, rapid_commit=True)
        self.client.events()

    @property
    def has(self) -> list[Prefix]:
        return [each.prefix for each in self.client.held]

    def _collect(self) -> None:
        for data in self.client.to_send(self.now):
            self.asked.append((self.now, decode(data).message))


def give(prefix: Prefix, preferred: int = 200, valid: int = 300, exclude: Prefix | None = None) -> IaPrefix:
    return IaPrefix(prefix=prefix, preferred=preferred, valid=valid, exclude=exclude)


GONE = StatusOption(int(Status.NO_PREFIX_AVAIL), "none left")
UNKNOWN = StatusOption(int(Status.NO_BINDING), "who are you")


def held(prefix: Prefix, valid_until: float = 5_000.0) -> Held:
    return Held(prefix=prefix, preferred_until=valid_until, valid_until=valid_until)
