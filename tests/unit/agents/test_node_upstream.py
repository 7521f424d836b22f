"""What a Node Agent passes on to the Subnet Agent of its machine."""

from __future__ import annotations

import asyncio
from pathlib import Path

from dnms.agents.subnet.node_upstream import NodeUpstream
from dnms.disk.delegated import Delegated, delegated_by, path_of, read
from dnms.disk.node_state import NodeStateDirectory
from dnms.events.configuration import AssignedPrefix, Assignment, Generation
from dnms.events.ip import parse_prefix
from dnms.events.uplink import Source
from tests.unit.agents.conftest import until
from tests.virtual_time import pass_time


async def test_a_node_agent_passes_on_what_it_is_delegated(tmp_path: Path) -> None:
    directory, second = NodeStateDirectory(tmp_path), 1_000_000
    upstream = NodeUpstream(tmp_path, "eth0", offset=lambda: 100 * second)
    looking = asyncio.create_task(upstream.run())
    await pass_time(1)
    assert upstream.current() is None
    assignment = Assignment(
        generation=Generation(),
        prefixes=(AssignedPrefix(prefix=parse_prefix("2001:db8:a::/60"), iaid=1, preferred=60, valid=90, position=7),),
        log="log",
    )
    delegated = delegated_by(assignment, site="home", subnet="lan", since=1_000.0)
    directory.delegate("eth0", delegated)
    assert read(path_of(tmp_path, "eth0")) == delegated
    await until(upstream.changed.is_set)
    received = upstream.current()
    assert received is not None
    assert received.source == Source(name="dnms home/lan", log="log", position=7)
    [prefix] = received.prefixes
    assert (prefix.preferred_until, prefix.valid_until) == (1_160 * second, 1_190 * second)
    directory.delegate("eth0", None)
    await until(lambda: upstream.current() != received)
    received = upstream.current()
    assert received is not None and (received.prefixes, received.why) == ((), "released")
    looking.cancel()
    await asyncio.wait((looking,))


async def test_a_clock_that_is_not_set_yet_prolongs_nothing(tmp_path: Path) -> None:
    """The machine was off for a minute, and its clock shows the beginning of 1970 until somebody tells it the time."""
    log, second = 1_000_060, 1_000_000
    assignment = Assignment(
        generation=Generation(),
        prefixes=(AssignedPrefix(prefix=parse_prefix("2001:db8:a::/60"), iaid=1, preferred=60, valid=90, position=7),),
    )
    delegated = delegated_by(assignment, site="home", subnet="lan", since=1_000_000.0)
    NodeStateDirectory(tmp_path).delegate("eth0", delegated)
    upstream = NodeUpstream(tmp_path, "eth0", offset=lambda: (log - 5) * second, now=lambda: 5 * second)
    running = asyncio.create_task(upstream.run())
    await until(upstream.changed.is_set)
    received = upstream.current()
    assert received is not None
    [prefix] = received.prefixes
    assert prefix.valid_until <= (log + 90) * second
    running.cancel()
    await asyncio.wait((running,))


def test_nothing_is_written_where_nothing_was_ever_delegated(tmp_path: Path) -> None:
    NodeStateDirectory(tmp_path).delegate("eth0", Delegated())
    assert not path_of(tmp_path, "eth0").exists()
