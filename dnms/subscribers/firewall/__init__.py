"""Keeps this machine's nftables as the log says: who is in which group, and the security rules of the plan.

In `table inet dnms` there is a set for each group and family, with the addresses and the prefixes of its members, and
what the rules of the plan become; on a host of bridges also in `table bridge dnms`, and where it is asked for a source
guard for links, and rules for what is sent to the machine itself. An operator may have chains of his own in the same
table, which refer to the sets; chains, rules and sets of others stay as they are.

`membership` is the fold, `rules` makes rules of the plan's, `planning` compares, `kernel` reads and changes, `options`
are what is local to the machine.
"""

from __future__ import annotations

from functools import partial

from dnms.linux import ruleset
from dnms.linux.errors import KernelError
from dnms.subscribers.firewall import planning
from dnms.subscribers.firewall.items import Item
from dnms.subscribers.firewall.kernel import Kernel
from dnms.subscribers.firewall.membership import Membership
from dnms.subscribers.firewall.options import options_of
from dnms.subscribers.firewall.planning import Found
from dnms.subscribers.firewall.reaching import reaches
from dnms.subscribers.subscriber import Local, OptionsError, Subscriber


def folding(local: Local) -> Membership:
    """The fold of a site's log, for this machine. OptionsError."""
    options = options_of(local)
    try:
        tracked = not options.bridge or ruleset.tracks_bridges()
    except KernelError as error:
        raise OptionsError(str(error)) from error
    return Membership(local.site, options, tracked=tracked)


def world(local: Local) -> Kernel:
    """The kernel of the network namespace that the calling thread is in. OptionsError."""
    return Kernel(options_of(local), partial(reaches, local.bus))


SUBSCRIBER: Subscriber[Item, Found] = Subscriber(
    name="firewall",
    about="nftables: sets of each group's members, the plan's security rules, a guard against forged sources",
    folding=folding,
    world=world,
    plan=planning.plan,
    takes=frozenset({"interfaces", "config"}),
)
