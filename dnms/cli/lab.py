"""`dnms lab`: a network of namespaces on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import msgspec
from cyclopts import App, Parameter

from dnms import lab
from dnms.cli.exits import OK
from dnms.cli.rendering import Output, answer, table

app = App(name="lab", help="A network of namespaces on this machine, with real agents in it.")


class Scenario(msgspec.Struct, frozen=True):
    """A scenario and what happens in it."""

    name: str
    about: str


@app.command(name="list")
def list_(*, output: Output = "table") -> int:
    """The scenarios."""
    scenarios = [Scenario(name, about) for name, about in lab.SCENARIOS.items()]
    answer(
        scenarios, lambda: [table(("Scenario", "What happens"), ((one.name, one.about) for one in scenarios))], output
    )
    return OK


@app.command
def run(
    scenario: Annotated[Literal[tuple(lab.SCENARIOS)], Parameter(help="Which one.")],  # type: ignore[valid-type]
    /,
    *,
    nodes: Annotated[int | None, Parameter(help="How many nodes: 20 if not said, in `mixed` 10 of each kind.")] = None,
    agents: Annotated[int, Parameter(help="How many Subnet Agents.")] = 2,
    keep: Annotated[
        Path | None,
        Parameter(help="Keep logs, state and the site in this directory, empty or not there yet, to ask it later."),
    ] = None,
    output: Output = "table",
) -> int:
    """Run a scenario; progress goes to stderr. Exit code 1 if not all went as it should."""
    return lab.run(scenario, nodes=nodes, agents=agents, output=output, keep=keep)
