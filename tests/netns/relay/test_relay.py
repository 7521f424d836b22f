"""A Node Agent whose Subnet Agents are two routers behind the relay on its link."""

from __future__ import annotations

from pathlib import Path

import pytest

from dnms.disk.site import Site
from dnms.events.ip import parse_address
from dnms.linux import probe
from dnms.projections.events.queries import EventRow
from tests.netns.relay.conftest import Branch


def agent_of(event: EventRow) -> str:
    """Who has seen it."""
    return event.subject.rpartition(".")[2]


async def test_a_node_has_its_addresses_over_every_restart_of_the_relay(branch: Branch) -> None:
    await branch.start_agent()
    await branch.start_relay()
    await branch.start_node()
    addresses = await branch.until_configured()
    first = await branch.until_sessions(1)
    assert first.fields["relay"] == "edge"
    assert first.fields["peer"] == branch.fe80()  # and not where the relay is
    of_6 = next(address for address in addresses if ":" in address)
    # Its answer comes by the gateway that it was told of.
    assert await probe.echoes(parse_address(of_6.partition("/")[0]), source=None, interface=0)
    await branch.kill("edge")
    await branch.start_relay()
    await branch.until_sessions(2)
    assert branch.addresses() == addresses
    await branch.terminate("edge")
    await branch.start_relay()
    await branch.until_sessions(3)
    assert branch.addresses() == addresses
    assert await branch.site.events("address.released", after=0) == []


async def test_who_had_a_session_with_an_agent_that_is_killed_has_one_with_the_other(branch: Branch) -> None:
    await branch.start_agent("one")
    await branch.start_agent("two")
    await branch.start_relay(agents=("one", "two"))
    await branch.start_node()
    addresses = await branch.until_configured()
    await branch.until("both agents are not known", lambda: branch.said("edge").count("agent answers") == 2)
    first = agent_of(await branch.until_sessions(1))
    await branch.kill(first)
    second = await branch.until_sessions(2)
    assert {first, agent_of(second)} == {"one", "two"}
    assert branch.addresses() == addresses
    await branch.start_agent(first)
    await branch.until("it does not begin", lambda: branch.said(first).count("serving relays") == 2)
    await branch.kill(agent_of(second))
    assert agent_of(await branch.until_sessions(3)) == first
    assert branch.addresses() == addresses


@pytest.mark.parametrize("why", ["not-authorised", "untrusted"])
async def test_a_relay_that_nobody_has_allowed_is_refused_and_both_ends_say_why(
    branch: Branch, tmp_path: Path, why: str
) -> None:
    await branch.start_agent(relays=("edge",))
    other = Site.create(tmp_path / "other", "lab") if why == "untrusted" else None
    await branch.start_relay("stranger" if other is None else "edge", site=other)
    relay = "stranger" if other is None else "edge"
    await branch.until("the agent says nothing", lambda: f"why={why}" in branch.said("one"))
    await branch.until("the relay says nothing", lambda: f"why={why}" in branch.said(relay))
    text = "--relay stranger" if other is None else "not signed by the root of this site"
    assert "relay refused" in branch.said("one")
    assert text in branch.said("one")
    assert text in branch.said(relay)
    assert not branch.is_offering()
    if other is None:  # once it is allowed, it is believed
        await branch.terminate("one")
        await branch.start_agent(relays=("edge", "stranger"))
        await branch.start_node()
        assert (await branch.until_sessions(1)).fields["relay"] == "stranger"
        assert branch.is_offering()
        await branch.kill("one")
        await branch.until("it offers what is not there", lambda: not branch.is_offering())
