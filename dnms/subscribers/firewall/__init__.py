"""Keeps an nftables set for each group and family, with the addresses of the group's members.

An operator writes one rule a group, in the same table, and it follows membership:

    table inet dnms {
        chain forward {
            type filter hook forward priority filter; policy accept;
            ip6 saddr @voip-6 ip6 daddr @sales-6 accept
        }
    }

Chains, rules and sets of others in the table stay as they are, and nothing outside of it is looked at. `membership` is
the fold, `sets` the plan and its application.
"""

from __future__ import annotations

from dnms.subscribers.firewall import membership, sets
from dnms.subscribers.subscriber import Subscriber

SUBSCRIBER: Subscriber[sets.Item, sets.Sets] = Subscriber(
    name="firewall",
    about="an nftables set for each group and family in table inet dnms, with its members' addresses",
    folding=lambda local: membership.Membership(local.site),
    world=lambda _: sets.Kernel(),
    plan=sets.plan,
)
