from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from dnms.agents.subnet import SubnetAgentError, SubnetSettings, run


@pytest.mark.parametrize(
    ("subnet", "name", "option"),
    [("office", "host.example.org", "--name"), ("office", "a_1", "--name"), ("of fice", "a1", "--subnet")],
)
async def test_a_name_that_is_no_token_of_a_subject_is_refused(subnet: str, name: str, option: str) -> None:
    settings = SubnetSettings(interface="eth0", subnet=subnet, name=name, site=Path("/nowhere"), bus="nats://localhost")
    with pytest.raises(SubnetAgentError, match=f"^{option} .* expected a name"):
        await run(settings, stop=asyncio.Event())
