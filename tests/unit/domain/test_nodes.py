from __future__ import annotations

from dnms.domain.nodes import NodeShard
from dnms.events.node import NodeArrived, NodeIdentified
from dnms.events.recorded import Personal
from dnms.events.requests import IdentifyNode

CLIENT = bytes(16)


def identify(name: str = "web-1", subnet: str = "office") -> IdentifyNode:
    return IdentifyNode(client=CLIENT, duid=Personal(b"\x00\x04" + bytes(16)), name=Personal(name), subnet=subnet)


def tell(shard: NodeShard, request: IdentifyNode) -> tuple[type, ...]:
    events = shard.decide(request, at=0, entropy=b"")
    for event in events:
        shard.evolve(event, at=0, position=1)
    return tuple(type(event) for event in events)


def test_a_node_is_identified_once_and_arrives_once() -> None:
    shard = NodeShard()
    assert tell(shard, identify()) == (NodeIdentified, NodeArrived)
    assert tell(shard, identify()) == ()


def test_a_new_name_and_a_new_subnet_are_told_apart() -> None:
    shard = NodeShard()
    tell(shard, identify())
    assert tell(shard, identify(name="web-2")) == (NodeIdentified,)
    assert tell(shard, identify(name="web-2", subnet="lab")) == (NodeArrived,)
    assert shard.nodes[CLIENT].subnet == "lab"


def test_a_draft_leaves_the_shard_as_it_was() -> None:
    shard = NodeShard()
    draft = shard.draft()
    tell(draft, identify())
    assert CLIENT in draft.nodes
    assert CLIENT not in shard.nodes
