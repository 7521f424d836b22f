"""Who there is, and where: a fold of one shard of the nodes, subject `node.<00-ff>`."""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping
from functools import lru_cache
from typing import Any, TypeVar, overload

import msgspec

from dnms.domain.aggregate import Refused
from dnms.domain.identity import duid_of_hardware
from dnms.events.codec import decoder, encoder
from dnms.events.node import NodeArrived, NodeEntered, NodeForgotten, NodeIdentified, NodeJoined, NodeParted, NodeReady
from dnms.events.recorded import Event, Personal, Request
from dnms.events.requests import CompleteNode, EnterNode, ForgetNode, IdentifyNode, JoinNode, PartNode
from dnms.kit.overlay import Overlay


class Node(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a shard knows of one node."""

    identity: NodeIdentified | None = None  # None until it has said who it is
    subnet: str = ""
    entered: NodeEntered | None = None  # by an operator
    ready: bool = False
    joined: bytes = b""  # into this client, by which it is known; empty: it is a node of its own
    parted: tuple[bytes, ...] = ()  # clients that an operator says it is not: no hardware address joins it into them

    @property
    def iaid_by_hardware(self) -> int | None:
        """Where it was entered by a hardware address: the IAID of its interface, of which the name is not known yet."""
        entered = self.entered
        if entered is None or not entered.hardware:
            return None
        address = entered.hardware[0].value
        is_entry = isinstance(address, bytes) and entered.duid.value == duid_of_hardware(address)
        return entered.iaid if is_entry else None


_decoder = decoder(Node)

D = TypeVar("D")

DECODED = 1_024
"""Nodes that are kept as objects too: one that comes is looked at several times in a moment."""


@lru_cache(maxsize=DECODED)
def _decoded(encoded: bytes) -> Node:
    return _decoder.decode(encoded)


class Nodes(MutableMapping[bytes, Node]):
    """Nodes by client id, as bytes: every agent knows all of a site, and as objects one would take twice as much.

    A node is looked at when it comes, and seldom otherwise.
    """

    def __init__(self) -> None:
        self.encoded: dict[bytes, bytes] = {}

    def __getitem__(self, client: bytes) -> Node:
        return _decoded(self.encoded[client])

    @overload
    def get(self, key: bytes, /) -> Node | None: ...
    @overload
    def get(self, key: bytes, default: Node, /) -> Node: ...
    @overload
    def get(self, key: bytes, default: D, /) -> Node | D: ...

    def get(self, key: bytes, default: object = None, /) -> object:
        """The node, or `default`; without the KeyError by which Mapping finds that it is missing."""
        encoded = self.encoded.get(key)
        return default if encoded is None else _decoded(encoded)

    def __setitem__(self, client: bytes, node: Node) -> None:
        self.encoded[client] = encoder.encode(node)

    def __delitem__(self, client: bytes) -> None:
        del self.encoded[client]

    def __contains__(self, client: object) -> bool:
        return client in self.encoded

    def __iter__(self) -> Iterator[bytes]:
        return iter(self.encoded)

    def __len__(self) -> int:
        return len(self.encoded)


class NodeShard:
    """The nodes whose client ids begin with one byte. Implements `aggregate.State`."""

    plan_position = 0  # nodes are whom they are under any plan

    def __init__(self) -> None:
        self.table = Nodes()
        self.nodes: MutableMapping[bytes, Node] = self.table

    def draft(self) -> NodeShard:
        """A copy that may be thrown away."""
        draft = NodeShard()
        draft.nodes = Overlay(self.nodes)
        return draft

    def entropy(self, request: Request) -> int:
        """All that it is given."""
        return request.ENTROPY

    def decide(self, request: Request, *, at: int, entropy: bytes) -> tuple[Event, ...]:
        """What is new about the node; nothing if all is known.

        Refused `entered-otherwise`, `not-entered`, `not-known`, `joined-otherwise`, `not-joined`, `parted`,
        `not-for-node`.
        """
        match request:
            case IdentifyNode():
                return self._identify(request)
            case EnterNode():
                return self._enter(request)
            case CompleteNode():
                known = self.nodes.get(request.client)
                if known is None or known.entered is None:
                    raise Refused("not-entered", "nobody has entered this node")
                return () if known.ready else (NodeReady(client=request.client),)
            case JoinNode():
                return self._join(request)
            case PartNode():
                return self._part(request)
            case ForgetNode():
                # One that was forgotten before may still have a key.
                if request.client not in self.nodes and not request.key:
                    raise Refused("not-known", "there is no such node")
                return (NodeForgotten(client=request.client, personal=request.personal, key=request.key),)
        raise Refused("not-for-node", f"a shard of nodes does not decide {request.NAME}")

    def _identify(self, request: IdentifyNode) -> tuple[Event, ...]:
        known = self.nodes.get(request.client)
        identity = NodeIdentified(
            client=request.client,
            duid=request.duid,
            name=request.name,
            hardware=request.hardware,
            kernel=request.kernel,
        )
        events: list[Event] = []
        if known is None or known.identity != identity:
            events.append(identity)
        left = known.subnet if known else ""
        if left != request.subnet:
            events.append(NodeArrived(client=request.client, subnet=request.subnet, left=left))
        return tuple(events)

    def _enter(self, request: EnterNode) -> tuple[Event, ...]:
        entered = as_asked(request)
        known = self.nodes.get(request.client)
        if known is None or known.entered is None:
            return (entered,)
        if known.entered != entered:
            # Addresses of another group or interface may be kept for it already.
            raise Refused("entered-otherwise", "the node is entered otherwise already; forget it first")
        return ()

    def _join(self, request: JoinNode) -> tuple[Event, ...]:
        """An operator's word joins any two. A hardware address, which anybody on the link can say to have, joins a node
        with the entry that an operator has made by it, and with what is known by it alone, and only the first one.
        """
        known = self.nodes.get(request.client)
        if known is None:
            raise Refused("not-known", "there is no such node")
        if request.client == request.into:
            raise Refused("not-joined", "it is this node itself")
        if known.joined == request.into:
            return ()
        if request.hardware is not None:
            is_entry = known.entered is not None and _has(known.entered, request.hardware)
            if not is_entry and not _is_only(known, request.hardware):
                raise Refused("not-entered", "nobody has entered a node by this hardware address")
            if known.joined or (is_entry and known.identity is not None):
                raise Refused("joined-otherwise", "another node was recognised by this hardware address")
            if request.into in known.parted:
                raise Refused("parted", "an operator has said that this node is not the one that was entered")
        return (NodeJoined(client=request.client, into=request.into, hardware=request.hardware),)

    def _part(self, request: PartNode) -> tuple[Event, ...]:
        """An entry that waited for a machine waits for another one, entered as it was: the one that came was not it."""
        known = self.nodes.get(request.client)
        if known is None or not known.joined:
            raise Refused("not-joined", "it is a node of its own")
        parted = NodeParted(client=request.client)
        if known.entered is None or known.identity is not None:
            return (parted,)
        return (parted, known.entered)

    def evolve(self, event: Event, *, at: int, position: int) -> None:
        """Take in one event."""
        match event:
            case NodeForgotten():
                self.nodes.pop(event.client, None)
            case NodeIdentified():
                self._note(event.client, identity=event)
            case NodeArrived():
                self._note(event.client, subnet=event.subnet)
            case NodeEntered():
                self._note(event.client, entered=event, ready=False)
            case NodeReady():
                self._note(event.client, ready=True)
            case NodeJoined():
                others = self.nodes.get(event.client, Node()).parted
                parted = tuple(each for each in others if each != event.into)
                self._note(event.client, joined=event.into, parted=parted)
            case NodeParted():
                known = self.nodes.get(event.client, Node())
                parted = (*known.parted, known.joined) if known.joined else known.parted
                self._note(event.client, joined=b"", entered=None, ready=False, parted=parted)

    def _note(self, client: bytes, **changes: Any) -> None:
        self.nodes[client] = msgspec.structs.replace(self.nodes.get(client, Node()), **changes)


def _has(entered: NodeEntered, hardware: Personal) -> bool:
    """Whether a node was entered by this hardware address. A sealed one, and one of an entry that was written before
    anything was sealed, cannot be compared here: who asks has done it.
    """
    from_before = hardware.key_id is not None and any(each.key_id is None for each in entered.hardware)
    return hardware in entered.hardware or from_before


def _is_only(known: Node, hardware: Personal) -> bool:
    """Whether nothing is known of a node but this hardware address; as far as that is not sealed, as in `_has`."""
    identity = known.identity
    if known.entered is not None or identity is None or identity.kernel:
        return False
    address, duid = hardware.value, identity.duid.value
    return not isinstance(address, bytes) or duid in (None, duid_of_hardware(address))


def as_asked(request: EnterNode) -> NodeEntered:
    """What a request to enter a node leads to."""
    return NodeEntered(**{name: getattr(request, name) for name in request.__struct_fields__})


def as_entered(entered: NodeEntered, client: bytes, duid: Personal, iaid: int) -> EnterNode:
    """The entry of another node as one of this node, with this DUID, for an interface."""
    return EnterNode(
        client=client,
        duid=duid,
        name=entered.name,
        iaid=iaid,
        hardware=entered.hardware,
        group=entered.group,
        subnets=entered.subnets,
    )
