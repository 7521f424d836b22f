"""`dnms pool`: what there is to give."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

from cyclopts import App, Parameter

from dnms.cli.asking import NOW, AskingThen
from dnms.cli.exits import OK
from dnms.cli.listing import Listing, listed
from dnms.cli.rendering import Output, answer, facts, say_if_none, table
from dnms.projections.pools.queries import PoolRow
from dnms.projections.pools.usage import PoolUsage

app = App(name="pool", help="The pools, and how much of them is in use.")


@app.command(name="list")
def list_(
    *,
    subnet: Annotated[str | None, Parameter(help="Those of this subnet only.")] = None,
    asking: AskingThen = NOW,
    output: Listing = "table",
) -> int:
    """All pools with their size and use. What rests was found in use by somebody else: nobody gets it for a while."""
    pools = asking.ask(lambda answers: answers.pools(subnet=subnet))
    say_if_none("pool", pools, subnet=subnet)
    listed(
        pools,
        PoolRow,
        lambda: [
            table(("Pool", "Subnet", "Range", "Strategy", "Size", "Held", "Resting", "Reserved"), map(_row, pools))
        ],
        output,
    )
    return OK


@app.command
def show(
    pool: Annotated[str, Parameter(help="Its name.")], /, *, asking: AskingThen = NOW, output: Output = "table"
) -> int:
    """One pool: its use, how fast it fills, and how likely it is that hashes of clients meet in it."""
    found = asking.ask(lambda answers: answers.pool(pool))
    answer(found[0], lambda: [facts(_facts(one)) for one in found], output)
    return OK


def _facts(pool: PoolUsage) -> Iterator[tuple[str, object]]:
    yield from (("pool", pool.pool), ("subnet", pool.subnet), ("range", pool.range), ("strategy", pool.strategy))
    yield "as of", pool.as_of
    yield "size", _size(pool.size)
    if pool.family == 4:
        yield "held", f"{pool.held} ({100 * pool.held / pool.size:.1f} %)" if pool.size else pool.held
    else:
        yield (
            "held",
            f"{pool.held}, by {pool.nodes} {'node' if pool.nodes == 1 else 'nodes'}",
        )  # a share of 2^64 says nothing
    yield from (("resting", pool.resting), ("reserved", pool.reserved))
    if pool.family == 4:
        yield "free", pool.free
    yield "in the last day", f"{pool.given_last_day} given, {pool.ended_last_day} ended"
    if pool.family == 4:
        yield "exhausted", pool.exhausted or "not, if it goes on so"
    if pool.collisions is not None:
        yield "the next hash collides", f"{pool.collisions.next:.2g}, in {_size(pool.collisions.space)}"
        yield "collisions so far", f"{pool.collisions.expected:.2g} expected; any: {pool.collisions.any:.2g}"


def _row(pool: PoolRow) -> tuple[object, ...]:
    name = f"{pool.pool} (withdrawn)" if pool.withdrawn else pool.pool
    return (name, pool.subnet, pool.range, pool.strategy, _size(pool.size), pool.held, pool.resting, pool.reserved)


def _size(size: int) -> str:
    """As it is read best: a power of two that is too long for its figures as such."""
    return f"2^{size.bit_length() - 1}" if size > 1 << 24 and size & (size - 1) == 0 else str(size)
