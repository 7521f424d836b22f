"""Who acts on the log.

A subscriber is a folder, of one of two forms. One keeps a part of the world as the log says, and nothing else: it has a
fold of the log to what is wanted, a look at what is there, a pure plan from the one to the other, and its application
(`subscriber`); `runner` runs it, and knows when nothing may be dropped. The other calls something outside for each
event (`caller`); `calling` runs it, in order for an entity and again until it is done. To add one, add its folder and
its line in SUBSCRIBERS; or bring it in a package of your own (`installed`).
"""

from __future__ import annotations

from typing import Any

from dnms.subscribers import firewall, routes, webhook
from dnms.subscribers.caller import Calling
from dnms.subscribers.exec import SUBSCRIBER as EXEC  # a module of that name would hide Python's own function
from dnms.subscribers.subscriber import Subscriber

AnySubscriber = Subscriber[Any, Any] | Calling

SUBSCRIBERS: tuple[AnySubscriber, ...] = (firewall.SUBSCRIBER, routes.SUBSCRIBER, EXEC, webhook.SUBSCRIBER)
"""Every subscriber of ours."""
