"""What users and agents see of a damaged log: views that stopped and say why, and agents that do not serve."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from dnms.agents.subnet.books import Books
from dnms.bus.committer import Committer
from dnms.bus.embedded import EmbeddedServer
from dnms.bus.jetstream import JetStreamLog, connect
from dnms.bus.port import LogDamaged
from dnms.cli.exits import OK, REFUSED
from dnms.disk.site import Site
from dnms.domain.aggregate import Fold
from dnms.domain.document import from_toml
from dnms.domain.plan import PlanState
from dnms.events import subjects
from dnms.events.requests import AllocateAddress
from dnms.kit.clock import SystemClock
from tests.system.bus import blocks
from tests.system.bus.conftest import TOKEN
from tests.system.cli.conftest import NAME, PATIENCE, PLAN, Done, dnms, history, serving, write

# --- users

Damage = Callable[[Path], None]


def in_the_middle(log: Path) -> None:
    (block,) = blocks.blocks(log, NAME)
    blocks.flip(block, blocks.messages(block)[5].fields["payload"][0])


def at_the_end(log: Path) -> None:
    (block,) = blocks.blocks(log, NAME)
    blocks.flip(block, blocks.messages(block)[-1].fields["payload"][0])


def of_the_plan(log: Path) -> None:
    (block,) = blocks.blocks(log, NAME)
    blocks.flip(block, blocks.messages(block)[0].fields["payload"][0])


def without_the_end(log: Path) -> None:
    """As a backup from before, or a disk that lied about its last writes."""
    (block,) = blocks.blocks(log, NAME)
    blocks.cut(block, blocks.messages(block)[-1].first)
    blocks.index(log, NAME).unlink()


def that_is_cut_off(log: Path) -> None:
    """The server finds it at its start, and drops all that is behind it."""
    (block,) = blocks.blocks(log, NAME)
    blocks.flip(block, blocks.messages(block)[5].fields["payload"][0])
    blocks.index(log, NAME).unlink()


def until(done: Callable[[], bool]) -> None:
    """Wait until it is so."""
    end = time.monotonic() + PATIENCE
    while not done():
        assert time.monotonic() < end
        time.sleep(0.1)


def nodes(directory: Path) -> Done:
    """What the views on this machine say, and to stderr whether they are kept up."""
    return dnms("node", "list", "--data", directory, "-o", "json")


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """A site with a plan, and seven commits of agents after it, all of them in its views."""
    directory, plan = tmp_path / "site", tmp_path / "plan.toml"
    plan.write_text(PLAN)
    assert dnms("init", NAME, "--site", directory).code == OK
    with serving(directory) as served:
        assert dnms("plan", "apply", plan, environment=served.environment).code == OK
        assert write(served, history()) == 8
        until(lambda: '"session.opened"' in dnms("event", "list", "-o", "json", environment=served.environment).out)
    return Site.load(directory)


def forget_views(site: Site) -> None:
    for file in site.views.parent.glob(f"{site.views.name}*"):
        file.unlink()


@pytest.mark.parametrize(
    ("damage", "known", "why"),
    [
        (in_the_middle, False, "dnms.example.ledger.office: the message at 7 comes after 5: messages are missing"),
        (at_the_end, False, "1 messages on dnms.example.> are missing: the bus counts them and cannot read them; 7 is"),
        (without_the_end, True, "was read at 8 before, and the log is shorter now"),
    ],
)
def test_the_views_stop_and_say_what_is_missing(site: Site, damage: Damage, known: bool, why: str) -> None:
    before = nodes(site.path).out
    damage(site.log_directory)
    if not known:
        forget_views(site)
    with serving(site.path) as served:
        until(lambda: "have stopped" in nodes(site.path).err)
        assert why in nodes(site.path).err
        if known:
            assert nodes(site.path).out == before  # what was read stays readable
            assert dnms("view", "verify", "--site", site.path, "--bus", served.bus).code == REFUSED
    assert why in site.path.with_name("site.stderr").read_text()
    assert "views stopped" in site.path.with_name("site.stderr").read_text()


def test_views_that_have_read_it_all_are_right_and_verifying_them_finds_what_is_gone(site: Site) -> None:
    before = nodes(site.path).out
    in_the_middle(site.log_directory)
    with serving(site.path) as served:
        until(lambda: "kept up by nobody" not in nodes(site.path).err)
        verified = dnms("view", "verify", "--site", site.path, "--bus", served.bus)
        assert nodes(site.path).out == before
    assert verified.code == REFUSED
    assert "dnms.example.ledger.office: the message at 7 comes after 5: messages are missing" in verified.err


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        (that_is_cut_off, "unreadable at its start and cut them off; what can be read ends at 5"),
        (of_the_plan, "1 messages on dnms.example.plan are missing: the bus counts them and cannot read them"),
    ],
)
def test_a_site_whose_bus_knows_of_the_damage_is_not_served(site: Site, damage: Damage, why: str) -> None:
    damage(site.log_directory)
    ended = dnms("serve", "--site", site.path, "--listen", "127.0.0.1:0", "--bus-listen", "127.0.0.1:0")
    assert ended.code == REFUSED
    assert why in ended.err
    if damage is that_is_cut_off:  # the bus is content at its next start: it is a shorter log now
        with serving(site.path):
            until(lambda: "ends at 5, and was read up to 7 before" in nodes(site.path).err)


# --- agents

SUBNET = "office"
CLIENTS = [bytes([number]) * 16 for number in range(1, 9)]


@asynccontextmanager
async def opened(directory: Path) -> AsyncIterator[JetStreamLog]:
    async with EmbeddedServer(directory, token=TOKEN) as server:
        log = await connect(server.url, NAME, token=TOKEN)
        try:
            yield log
        finally:
            await log.close()


def books_on(log: JetStreamLog) -> Books:
    return Books(
        log,
        site=NAME,
        secret=bytes(32),
        subnet=SUBNET,
        agent="east",
        now=SystemClock().now,
        random=secrets.token_bytes,
    )


async def apply_plan(log: JetStreamLog) -> None:
    committer = Committer(
        log,
        subjects.plan(NAME),
        Fold(PlanState()),
        actor="operator/test",
        now=SystemClock().now,
        random=secrets.token_bytes,
    )
    running = asyncio.create_task(committer.run())
    await committer.submit(from_toml(PLAN))
    running.cancel()
    await asyncio.wait({running})


@pytest.fixture
async def ledger(tmp_path: Path) -> Path:
    """A log in which an agent has given addresses, one commit each."""
    directory = tmp_path / "log"
    async with asyncio.timeout(PATIENCE), opened(directory) as log:
        await apply_plan(log)
        books = books_on(log)
        running = asyncio.create_task(books.run())
        while books.ledger.plan.subnet is None:  # noqa: ASYNC110  # it tells its nodes, and there are none
            await asyncio.sleep(0.01)
        for client in CLIENTS:
            await books.decide(AllocateAddress(client=client, iaid=1, family=6))
        running.cancel()
        await asyncio.wait({running})
    return directory


@pytest.mark.parametrize("number", [0, 1, 5, 9], ids=["the plan", "its adoption", "a lease", "the last lease"])
async def test_an_agent_ends_and_has_not_served(ledger: Path, number: int) -> None:
    (block,) = blocks.blocks(ledger, NAME)
    messages = blocks.messages(block)
    assert len(messages) == 2 + len(CLIENTS)
    blocks.flip(block, messages[number].fields["payload"][0])
    async with asyncio.timeout(PATIENCE), opened(ledger) as log:
        books = books_on(log)
        with pytest.raises(BaseExceptionGroup) as ended:
            await books.run()
        assert ended.group_contains(LogDamaged)
        assert not books.caught_up.is_set()
        assert await log.end() == len(messages)  # nothing was written


async def test_an_agent_does_not_start_over_what_its_bus_cut_off(ledger: Path) -> None:
    (block,) = blocks.blocks(ledger, NAME)
    blocks.flip(block, blocks.messages(block)[4].fields["length"][0])
    with pytest.raises(LogDamaged, match="unreadable at its start and cut them off; what can be read ends at 4"):
        async with opened(ledger):
            pass
