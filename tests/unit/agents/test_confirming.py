"""For how long a change has to prove itself."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import cast

import msgspec
import pytest

from dnms.agents.node.confirming import Confirming
from dnms.agents.node.machine import Machine
from dnms.disk.node_state import NodeStateDirectory
from dnms.events.configuration import (
    AssignedAddress,
    Assignment,
    Generation,
    InterfaceAddress,
    Link,
    Policy,
    Resolver,
    Snapshot,
)
from dnms.events.ip import parse_address
from tests.unit.agents.conftest import until

ADDRESS = parse_address("2001:db8::7")
LINK = Link(index=2, name="eth0")
SNAPSHOT = Snapshot(
    links=(LINK,), addresses=(InterfaceAddress(interface=2, address=ADDRESS, prefix_length=64, origin="managed"),)
)
CONFIRM = 30


class Still:
    """A machine on which nothing answers, and nothing changes."""

    interface = "eth0"

    async def link(self) -> Link:
        return LINK

    async def neighbours_of(self, asked: Mapping[bytes, bytes]) -> frozenset[bytes]:
        return frozenset()

    def differing(self, settings: Mapping[str, str]) -> dict[str, str]:
        return {}

    def uptime(self) -> float:
        return 0.0

    def boot(self) -> str:
        return "boot"

    async def roll_back(self, unproven: object, *, elapsed: float) -> None:
        """Nothing was changed."""


@pytest.fixture
def confirming(tmp_path: Path) -> Confirming:
    return Confirming(cast("Machine", Still()), NodeStateDirectory(tmp_path))


def told(dns: str, position: int, valid: int = 120) -> Assignment:
    return Assignment(
        generation=Generation(0, 1, position),
        addresses=(AssignedAddress(address=ADDRESS, prefix_length=64, iaid=1, preferred=60, valid=valid),),
        resolver=Resolver(servers=(parse_address(dns),)),
        policy=Policy(confirm=CONFIRM),
    )


async def test_the_same_once_more_gets_no_more_time(confirming: Confirming) -> None:
    now = asyncio.get_running_loop().time
    assert await confirming.begin(told("2001:db8::53", 2), SNAPSHOT)
    first = confirming.until
    assert first == now() + CONFIRM
    await until(lambda: now() >= first - CONFIRM / 2, seconds=CONFIRM)
    assert await confirming.begin(told("2001:db8::53", 3, valid=150), SNAPSHOT)
    assert confirming.until == first
    assert await confirming.begin(told("2001:db8::54", 4), SNAPSHOT)
    assert confirming.until == now() + CONFIRM


async def test_after_it_was_proven_or_rolled_back_time_begins_anew(confirming: Confirming) -> None:
    now = asyncio.get_running_loop().time
    wanted = told("2001:db8::53", 2)
    assert await confirming.begin(wanted, SNAPSHOT)
    await confirming.roll_back(wanted, "gateway")
    assert confirming.refuses(msgspec.structs.replace(wanted, generation=Generation(0, 1, 9))) == "gateway"
    await until(lambda: not confirming.refuses(wanted), seconds=70)
    assert await confirming.begin(wanted, SNAPSHOT)
    assert confirming.until == now() + CONFIRM
    confirming.stands(wanted)
    assert not await confirming.begin(wanted, SNAPSHOT)
