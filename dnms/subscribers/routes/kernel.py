"""The routes of our protocol in the kernel: what to change of them, and how."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncGenerator, Iterable, Iterator
from contextlib import contextmanager

from dnms.domain.routes import Route
from dnms.linux.errors import KernelError
from dnms.linux.routes import Known, RouteTable, links_changed
from dnms.subscribers.subscriber import Actual, ApplyError, PartlyApplied, Plan

MAX_NAMED = 5
"""Routes that are named in what is said of those that could not be changed; a link that is away may have thousands."""


class Routes(Actual[Route], frozen=True, kw_only=True):
    """The routes that are there."""

    up: frozenset[str] | None = None  # the names of interfaces that are up; None: all are


def plan(wanted: frozenset[Route], actual: Routes) -> Plan[Route]:
    """Wanted minus actual, but for what leads over an interface that is not up; actual minus wanted.

    Nobody can be reached over such an interface, so its routes keep nobody else waiting: they come when it does.
    """
    add = wanted - actual.ours
    down = {route.interface for route in add} - {""} - actual.up if actual.up is not None else set()
    lacks = frozenset(route for route in add if route.interface in down)
    return Plan(
        add=add - lacks,
        lacks=lacks,
        drop=actual.ours - wanted,
        notes=tuple(f"interface {name} is not there, or not up: routes over it wait for that" for name in sorted(down)),
    )


class Kernel:
    """Our routes in the namespace of the calling thread. Implements `subscriber.World`."""

    def __init__(self) -> None:
        self._known = Known()

    async def actual(self) -> Routes:
        """What is there of our protocol. ApplyError."""
        with _told(), RouteTable(known=self._known) as table:
            return Routes(ours=await table.read(), up=await table.up())

    async def apply(self, plan: Plan[Route]) -> None:
        """All that can be, in few messages to the kernel. ApplyError; PartlyApplied if some could not be changed.

        One that leads elsewhere now cannot be added while the old one may not be dropped, and waits until it may.
        """
        with _told(), RouteTable() as table:
            refused = await table.change(add=plan.add, delete=plan.drop)
        if refused:
            raise _partly(refused, refused.keys() & plan.add)

    def changes(self) -> AsyncGenerator[None, None]:
        """Yields when a link has come, or has come up: its routes can be added then, and went when it went."""
        return links_changed()


def _partly(refused: dict[Route, KernelError], lacks: Iterable[Route]) -> PartlyApplied:
    """What is said of the routes that could not be changed."""
    [(why, _)] = Counter(error.why for error in refused.values()).most_common(1)
    named = [refused[route].text for route in sorted(refused)[:MAX_NAMED]]
    more = [f"and {len(refused) - MAX_NAMED} more"] if len(refused) > MAX_NAMED else []
    return PartlyApplied(why, "; ".join(named + more), map(str, lacks))


@contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except KernelError as error:
        raise ApplyError(error.why, str(error)) from error
