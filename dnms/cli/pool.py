"""`dnms pool`: what there is to give."""

from __future__ import annotations

from typing import Annotated

from cyclopts import App, Parameter

from dnms.cli.asking import NOWHERE_ELSE, Asking
from dnms.cli.exits import OK
from dnms.cli.rendering import Output, answer, say_if_none, table
from dnms.projections.pools.queries import PoolRow

app = App(name="pool", help="The pools, and how much of them is in use.")


@app.command(name="list")
def list_(
    *,
    subnet: Annotated[str | None, Parameter(help="Those of this subnet only.")] = None,
    asking: Asking = NOWHERE_ELSE,
    output: Output = "table",
) -> int:
    """All pools with their size and use. What rests was found in use by somebody else: nobody gets it for a while."""
    pools = asking.ask(lambda answers: answers.pools(subnet=subnet))
    say_if_none("pool", pools, subnet=subnet)
    answer(
        pools,
        lambda: [table(("Pool", "Subnet", "Range", "Strategy", "Size", "Held", "Resting"), map(_row, pools))],
        output,
    )
    return OK


def _row(pool: PoolRow) -> tuple[object, ...]:
    name = f"{pool.pool} (withdrawn)" if pool.withdrawn else pool.pool
    return (name, pool.subnet, pool.range, pool.strategy, _size(pool.size), pool.held, pool.resting)


def _size(size: int) -> str:
    """As it is read best: a power of two that is too long for its figures as such."""
    return f"2^{size.bit_length() - 1}" if size > 1 << 24 and size & (size - 1) == 0 else str(size)
