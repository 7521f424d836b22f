"""Which routes this machine needs: those of the links that it was told to be the router of."""

from __future__ import annotations

from dnms.domain.document import LEVEL
from dnms.domain.routes import LinkRoutes, Route, causes, of_links
from dnms.events import subjects
from dnms.events.codec import UnknownToThisRelease
from dnms.events.commit import Stored
from dnms.events.plan import SiteDefined
from dnms.subscribers.subscriber import Local, OptionsError


class Wanted:
    """The fold of a site's log to routes. Implements `subscriber.Folding`."""

    def __init__(self, local: Local) -> None:
        """OptionsError if there is no link."""
        if not local.interfaces:
            raise OptionsError("no link: give --interface SUBNET=INTERFACE for each that this machine routes")
        self._plan_subject = subjects.plan(local.site)
        self._planned = False
        self._links = {
            subjects.ledger(local.site, subnet): LinkRoutes(interface) for subnet, interface in local.interfaces.items()
        }

    def take(self, stored: Stored) -> bool:
        """Take in a commit; whether other routes may be wanted now. UnknownToThisRelease."""
        if stored.subject == self._plan_subject:
            return self._take_plan(stored)
        if stored.subject not in self._links:
            return False
        link = self._links[stored.subject]
        changes = [link.evolve(event, stored.sequence) for event in stored.commit.events]
        return any(changes)

    def wanted(self) -> frozenset[Route] | None:
        """The routes; None while there is no plan."""
        return of_links(list(self._links.values())) if self._planned else None

    def causes(self) -> dict[Route, int]:
        """The routes, with the position of the commit that each is wanted by."""
        return causes(list(self._links.values()))

    def _take_plan(self, stored: Stored) -> bool:
        before, self._planned = self._planned, True
        for event in stored.commit.events:
            if isinstance(event, SiteDefined) and event.level > LEVEL:
                raise UnknownToThisRelease(
                    f"the site is at level {event.level}; this release knows {LEVEL}: upgrade it"
                )
        return not before
