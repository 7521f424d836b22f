from __future__ import annotations

import asyncio
from pathlib import Path
from typing import cast

import msgspec
import pytest

from dnms.agents.pump import Pump
from dnms.agents.subnet import SubnetAgentError, SubnetSettings, run
from dnms.agents.subnet.books import Books
from dnms.agents.subnet.served import Introduction, ServedNode
from dnms.agents.subnet.sessions import Sessions
from dnms.events.ip import parse_address
from dnms.wire import agent_events
from dnms.wire.answering import Answering, fitting
from dnms.wire.datagrams import encode_offer
from dnms.wire.messages import MAX_ENDPOINTS, Endpoint, Offer
from tests.unit.agents.conftest import SITE, SUBNET, Node


@pytest.mark.parametrize(
    ("subnet", "name", "option"),
    [("office", "host.example.org", "--name"), ("office", "a_1", "--name"), ("of fice", "a1", "--subnet")],
)
async def test_a_name_that_is_no_token_of_a_subject_is_refused(subnet: str, name: str, option: str) -> None:
    settings = SubnetSettings(interface="eth0", subnet=subnet, name=name, site=Path("/nowhere"), bus="nats://localhost")
    with pytest.raises(SubnetAgentError, match=f"^{option} .* expected a name"):
        await run(settings, stop=asyncio.Event())


def test_an_offer_names_as_many_endpoints_as_a_datagram_takes() -> None:
    endpoints = tuple(
        Endpoint(address=parse_address(f"2001:db8:1234:5678::{host:x}"), port=61047) for host in range(MAX_ENDPOINTS)
    )
    long = "a" * 63
    offer = Offer(
        nonce=bytes(16), site=long[:32], subnet=long, agent=long, endpoints=endpoints, preference=9, root=bytes(32)
    )
    with pytest.raises(ValueError, match="name fewer endpoints"):
        encode_offer(offer)
    fit = fitting(offer)
    Answering[str](fit)  # refuses what does not fit
    assert 16 < len(fit.endpoints) < MAX_ENDPOINTS
    assert fit.endpoints == endpoints[: len(fit.endpoints)]
    assert fitting(fit) is fit


async def test_a_defect_in_one_session_keeps_no_plan_from_the_others(books: Books) -> None:
    class Defect(Node):
        pushed = False

        async def push(self) -> None:
            self.pushed = True
            if self.duid == broken.duid:
                raise KeyError("a defect")

    sessions = Sessions(books, Introduction("a1", SITE, SUBNET), client_id=lambda duid: duid[2:])
    broken, sound = Defect(books, "web-1"), Defect(books, "web-2")
    waiting = [asyncio.create_task(asyncio.Event().wait()) for _ in range(2)]
    for task, node in zip(waiting, (broken, sound), strict=True):
        pump: Pump[agent_events.AgentEvent] = Pump(node.agent, asyncio.StreamReader(), None)  # type: ignore[arg-type]
        sessions._open[cast("asyncio.Task[None]", task)] = (node.agent, pump, cast("ServedNode", node))
    await sessions.push(None)
    assert broken.pushed
    assert sound.pushed
    for task in waiting:
        task.cancel()


def test_the_journal_is_beside_the_sites_directory_or_where_it_is_said() -> None:
    settings = SubnetSettings(interface="eth0", subnet="lab", name="a1", site=Path("/var/lib/dnms/site"), bus="")
    assert settings.journal == Path("/var/lib/dnms/agent/a1/journal-lab.sqlite")
    elsewhere = msgspec.structs.replace(settings, state=Path("/srv/a1"))
    assert elsewhere.journal == Path("/srv/a1/journal-lab.sqlite")
