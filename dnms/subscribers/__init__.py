"""Who acts on the log: each subscriber keeps one part of the world as the log says, and nothing else.

A subscriber is a folder: a fold of the log to what is wanted, a look at what is there, a pure plan from the one to the
other, and its application (`subscriber` has the forms). `runner` runs any of them, and knows when nothing may be
dropped. To add one, add its folder and its line in SUBSCRIBERS.
"""

from __future__ import annotations

from typing import Any

from dnms.subscribers import firewall, routes
from dnms.subscribers.subscriber import Subscriber

SUBSCRIBERS: tuple[Subscriber[Any, Any], ...] = (firewall.SUBSCRIBER, routes.SUBSCRIBER)
"""Every subscriber."""
