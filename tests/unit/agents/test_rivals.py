"""Other managers of an interface: named, or told once to leave it and waited for, as the policy says."""

from __future__ import annotations

from typing import cast

import pytest

from dnms.agents.node import application
from dnms.agents.node.application import Application
from dnms.agents.node.machine import Machine
from dnms.events.configuration import Policy
from dnms.linux.rivals import Rival

DHCPCD = Rival("dhcpcd", "by its process", "deny it", True)
DHCLIENT = Rival("dhclient", "by its process", "end it")
CONFIGURE = Policy(rivals="configure")


class Host:
    """Programs that have the interface, and let go of it some looks after they were told, if they do."""

    def __init__(self, *rivals: Rival, looks: int | None = 0) -> None:
        self.rivals_now = rivals
        self.looks = looks
        self.told: list[str] = []

    async def rivals(self) -> tuple[Rival, ...]:
        if self.told and self.looks is not None:
            self.looks -= 1
            if self.looks < 0:
                return tuple(each for each in self.rivals_now if each.name not in self.told)
        return self.rivals_now

    async def leave_alone(self, rival: Rival) -> bool:
        if not rival.has_drop_in or rival.name in self.told:
            return False
        self.told.append(rival.name)
        return True


async def left(host: Host, policy: Policy) -> list[str]:
    """Who manages the interface in the end."""
    return [each.name for each in await Application(cast("Machine", host)).rivals(policy)]


async def test_by_default_nobody_is_told() -> None:
    host = Host(DHCPCD)
    assert await left(host, Policy()) == ["dhcpcd"]
    assert host.told == []


@pytest.mark.parametrize("looks", [0, 3])
async def test_who_is_told_is_waited_for(looks: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(application, "LETS_GO", 1.0)
    host = Host(DHCPCD, looks=looks)
    assert await left(host, CONFIGURE) == []
    assert host.told == ["dhcpcd"]


async def test_who_does_not_let_go_is_named_and_not_told_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(application, "LETS_GO", 0.05)
    host = Host(DHCPCD, looks=None)
    assert await left(host, CONFIGURE) == ["dhcpcd"]
    assert await left(host, CONFIGURE) == ["dhcpcd"]
    assert host.told == ["dhcpcd"]


async def test_who_cannot_be_told_is_named_at_once() -> None:
    host = Host(DHCLIENT)
    assert await left(host, CONFIGURE) == ["dhclient"]
