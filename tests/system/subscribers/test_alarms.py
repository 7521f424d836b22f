"""`dnms subscriber run exec webhook` at an alarm that an agent has raised, of a real router."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from standardwebhooks import Webhook

from dnms.lab.network import INTERFACE
from tests.contracts.subscribers.web import listening
from tests.netns.dhcp6.served import inside, served
from tests.netns.programs import radvd
from tests.system.subscribers.conftest import subscribed
from tests.system.subscribers.test_calling import SECRET

RADVD = "interface eth0 { AdvSendAdvert on; MinRtrAdvInterval 3; MaxRtrAdvInterval 4; AdvDefaultLifetime 600; };\n"


@pytest.mark.parametrize(
    ("asked", "called"),
    [
        (("alarm",), ["alarm.raised", "alarm.cleared"]),
        (("alarm.cleared",), ["alarm.cleared"]),  # which comes after what it did not ask for
    ],
)
def test_an_alarm_reaches_a_program_and_a_webhook_that_ask_for_it(
    tmp_path: Path, asked: tuple[str, ...], called: list[str]
) -> None:
    program = tmp_path / "program"
    program.write_text(f"""#!/bin/sh
echo "$DNMS_EVENT $DNMS_ALARM $DNMS_ADDRESS $DNMS_WHY $DNMS_SUBNET $DNMS_POSITION" >> {tmp_path}/called
""")
    program.chmod(0o755)
    (tmp_path / "hook.secret").write_text(SECRET)
    config = tmp_path / "calls.toml"

    async def work() -> None:
        async with served(tmp_path, agents=1, watch=True) as link:
            with listening() as server:
                config.write_text(
                    f'[exec]\ncommand = ["{program}"]\nkinds = {json.dumps(asked)}\n'
                    f'[webhook]\nurl = "{server.url}"\nsecret = "hook.secret"\nkinds = {json.dumps(asked)}\n'
                )
                words = ("exec", "webhook", "--config", config, "--instance", "gate")
                with subscribed(link.site.site.path, link.site.bus, *words) as both:
                    for _ in range(2):
                        await asyncio.to_thread(both.settled)
                    router = link.network.plug("router-2")
                    await link.set_up(router, INTERFACE)
                    with radvd(router, tmp_path, RADVD):
                        await link.until(lambda: link.said("something is wrong on the link"))
                    file = tmp_path / "called"
                    await link.until(lambda: file.exists() and file.read_text().count("\n") == len(called))
                    await link.until(lambda: len(server.requests) == len(called))
                events = [each for each in await link.site.events("alarm", after=0) if each.name in called]
            by_program = [line.split() for line in (tmp_path / "called").read_text().splitlines()]
            by_webhook = [Webhook(SECRET).verify(content, headers) for headers, content in server.requests]
            assert [each.name for each in events] == called
            for event, line, posted in zip(events, by_program, by_webhook, strict=True):
                why = "not-planned" if event.name == "alarm.raised" else "over"
                address = event.fields["address"]
                assert line == [event.name, "router", address, why, "lab", posted["id"]]
                assert (posted["data"]["name"], posted["subject"]) == (event.name, address)
                assert posted["data"]["fields"] == event.fields
                assert posted["id"].endswith(f":{event.position}")

    inside(work)
