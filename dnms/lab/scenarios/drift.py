"""Somebody else changes what nodes were given, by hand and again and again: all of it is seen, told, and put back."""

from __future__ import annotations

import random
import time

from dnms.events.ip import family, format_address
from dnms.lab.lab import Lab, Outcome
from dnms.lab.network import INTERFACE
from dnms.lab.report import DriftReport
from dnms.lab.steps import Stage
from dnms.lab.verdict import counted, verdict
from dnms.linux.namespaces import Namespace, NamespaceError

ROUNDS = 3  # fewer than after which a thing is given up


async def run(lab: Lab) -> Outcome:
    """LabError where it cannot go on."""
    async with Stage.built(lab) as stage:
        await stage.start()
        position, chance, changes = await stage.site.position(), random.Random(lab.nodes), 0
        took = 0.0
        for _ in range(ROUNDS):
            for place, node in enumerate(stage.network.nodes):
                changes += _change(node, stage.observatory.read(place).ours, chance)
            began = time.monotonic()
            await stage.wait_for_event("configuration.drifted", of=stage.names, after=position)
            await stage.wait_until_configured()
            took = time.monotonic() - began
        events = await stage.site.events("configuration.drifted", after=position)
        for event in events:
            if event.fields.get("action") != "restored":
                stage.wrong.append(f"{event.node}: what somebody else changed was {event.fields.get('action')}")
        return counted(
            await verdict(stage, "drift"),
            DriftReport,
            changes=changes,
            restored=len(events),
            seconds_to_restore=round(took, 1),
        )


def _change(node: Namespace, ours: frozenset[bytes], chance: random.Random) -> int:
    """Something, as a person at the machine would; how many changes that were."""
    six = next((format_address(each) for each in ours if family(each) == 6), "")
    changes = (
        [f"address delete {six}/64 dev {INTERFACE}"],
        [f"address add 2001:db8:bad::{chance.randrange(1, 9)}/64 dev {INTERFACE} nodad"],
        [f"route delete default via fe80::1 dev {INTERFACE}"],
        [f"address add 203.0.113.{chance.randrange(1, 9)}/24 dev {INTERFACE}"],
    )
    done = 0
    for lines in chance.sample(changes, 2):
        try:
            node.ip(lines)
            done += 1
        except NamespaceError:
            continue  # it is so already
    return done
