"""Keeps the routes of a router: to what its delegates have, to what its links have, and to nothing for the rest.

Each is of table main, and of a protocol of its own, so that `ip -6 route show proto 199` lists them; routes of others
are never touched. `wanted` is the fold, `kernel` the plan and its application; which routes there are to be is said in
`dnms.domain.routes`, for the agents too.
"""

from __future__ import annotations

from dnms.domain.routes import Route
from dnms.subscribers.routes import kernel, wanted
from dnms.subscribers.subscriber import Subscriber

SUBSCRIBER: Subscriber[Route, kernel.Routes] = Subscriber(
    name="routes",
    about="on a router: to delegated prefixes, to what its links have of a prefix from above, and nowhere for the rest",
    folding=wanted.Wanted,
    world=lambda _: kernel.Kernel(),
    plan=kernel.plan,
    takes=frozenset({"interfaces"}),
)
"""The routes of protocol 199 in table main."""
