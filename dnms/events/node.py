"""Family `node`: who there is, and where. Subjects `node.<00-ff>`, by the first byte of the client id."""

from __future__ import annotations

from dnms.events.configuration import ClientId, Iaid
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


class NodeEntered(Event, frozen=True, kw_only=True, omit_defaults=True):
    """An operator has told of a node, which may never have been here: addresses are to be kept for it."""

    NAME = "node.entered"
    client: ClientId
    duid: Personal  # bytes, RFC 8415, 11
    name: Personal
    iaid: Iaid  # of the interface that the addresses are for
    hardware: tuple[Personal, ...] = ()
    group: str = ""  # its name; empty: the plan's patterns say it
    subnets: tuple[Name, ...] = ()  # where addresses are kept for it; empty: in all that the plan has


class NodeReady(Event, frozen=True, kw_only=True, omit_defaults=True):
    """In every ledger that it was entered for, addresses are kept for the node."""

    NAME = "node.ready"
    client: ClientId


class NodeJoined(Event, frozen=True, kw_only=True, omit_defaults=True):
    """This client is the same machine as another one, and known as that from now on: of two identities one node."""

    NAME = "node.joined"
    client: ClientId
    into: ClientId
    hardware: Personal | None = None  # by which an entered node was recognised; None: an operator says so


class NodeParted(Event, frozen=True, kw_only=True, omit_defaults=True):
    """This client is a node of its own again. What was kept for it stays with the node that it was joined into.

    Nobody has entered it any more, unless a `node.entered` follows: the entry by a hardware address waits again.
    """

    NAME = "node.parted"
    client: ClientId


class NodeForgotten(Event, frozen=True, kw_only=True, omit_defaults=True):
    """There is no such node any more. One that says who it is afterwards is a new one."""

    NAME = "node.forgotten"
    client: ClientId
    personal: bool = False  # what is personal of it is to be nowhere any more
    key: bytes = b""  # with `personal`: the id of the key with which that is sealed, and which is destroyed


EVENTS = (NodeIdentified, NodeArrived, NodeEntered, NodeReady, NodeJoined, NodeParted, NodeForgotten)
