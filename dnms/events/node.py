"""Family `node`: who there is, and where. Subjects `node.<00-ff>`, by the first byte of the client id."""

from __future__ import annotations

from dnms.events.configuration import ClientId
from dnms.events.plan import Name
from dnms.events.recorded import Event, Personal


class NodeIdentified(Event, frozen=True, kw_only=True, omit_defaults=True):
    """A node said who it is: for the first time, or otherwise than before."""

    NAME = "node.identified"
    client: ClientId
    duid: Personal  # bytes, RFC 8415, 11
    name: Personal
    hardware: tuple[Personal, ...] = ()  # of the interfaces that it registered, sorted
    kernel: str = ""


class NodeArrived(Event, frozen=True, kw_only=True, omit_defaults=True):
    """A node is on this subnet, and was on another one before, or on none."""

    NAME = "node.arrived"
    client: ClientId
    subnet: Name
    left: str = ""  # the subnet where it was


EVENTS = (NodeIdentified, NodeArrived)
