"""Who there is, and where: a fold of one shard of the nodes, subject `node.<00-ff>`."""

from __future__ import annotations

from collections.abc import MutableMapping

import msgspec

from dnms.domain.aggregate import Refused
from dnms.events.node import NodeArrived, NodeIdentified
from dnms.events.recorded import Event, Request
from dnms.events.requests import IdentifyNode
from dnms.kit.overlay import Overlay


class Node(msgspec.Struct, frozen=True):
    """What a shard knows of one node."""

    identity: NodeIdentified
    subnet: str = ""


class NodeShard:
    """The nodes whose client ids begin with one byte. Implements `aggregate.State`."""

    plan_position = 0  # nodes are whom they are under any plan

    def __init__(self) -> None:
        self.nodes: MutableMapping[bytes, Node] = {}  # by client id

    def draft(self) -> NodeShard:
        """A copy that may be thrown away."""
        draft = NodeShard()
        draft.nodes = Overlay(self.nodes)
        return draft

    def entropy(self, request: Request) -> int:
        """All that it is given."""
        return request.ENTROPY

    def decide(self, request: Request, *, at: int, entropy: bytes) -> tuple[Event, ...]:
        """What is new about the node; nothing if all is known. Refused `not-for-node`."""
        if not isinstance(request, IdentifyNode):
            raise Refused("not-for-node", f"a shard of nodes does not decide {request.NAME}")
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

    def evolve(self, event: Event, *, at: int, position: int) -> None:
        """Take in one event."""
        match event:
            case NodeIdentified():
                known = self.nodes.get(event.client)
                self.nodes[event.client] = Node(event, known.subnet if known else "")
            case NodeArrived():
                self.nodes[event.client] = Node(self.nodes[event.client].identity, event.subnet)
