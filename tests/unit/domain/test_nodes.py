from __future__ import annotations

import pytest

from dnms.domain.aggregate import Refused
from dnms.domain.nodes import NodeShard
from dnms.events.node import NodeArrived, NodeEntered, NodeForgotten, NodeIdentified, NodeReady
from dnms.events.recorded import Personal, Request
from dnms.events.requests import CompleteNode, EnterNode, ForgetNode, IdentifyNode

CLIENT = bytes(16)


def identify(name: str = "web-1", subnet: str = "office") -> IdentifyNode:
    return IdentifyNode(client=CLIENT, duid=Personal(b"\x00\x04" + bytes(16)), name=Personal(name), subnet=subnet)


def tell(shard: NodeShard, request: Request) -> tuple[type, ...]:
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


def enter(name: str = "web-1", group: str = "") -> EnterNode:
    return EnterNode(client=CLIENT, duid=Personal(b"\x00\x04" + bytes(16)), name=Personal(name), iaid=1, group=group)


def test_a_node_is_entered_once_and_ready_once() -> None:
    shard = NodeShard()
    with pytest.raises(Refused, match="entered"):
        shard.decide(CompleteNode(client=CLIENT), at=0, entropy=b"")
    assert tell(shard, enter()) == (NodeEntered,)
    assert tell(shard, enter()) == ()
    assert tell(shard, CompleteNode(client=CLIENT)) == (NodeReady,)
    assert tell(shard, CompleteNode(client=CLIENT)) == ()
    with pytest.raises(Refused) as refusal:
        shard.decide(enter(group="voip"), at=0, entropy=b"")
    assert refusal.value.why == "entered-otherwise"
    assert tell(shard, identify()) == (NodeIdentified, NodeArrived)  # as if it had not been entered


def test_who_is_forgotten_comes_as_a_new_one() -> None:
    shard = NodeShard()
    forget = ForgetNode(client=CLIENT)
    with pytest.raises(Refused) as refusal:
        shard.decide(forget, at=0, entropy=b"")
    assert refusal.value.why == "not-known"
    tell(shard, enter())
    tell(shard, identify())
    assert tell(shard, forget) == (NodeForgotten,)
    assert tell(shard, identify()) == (NodeIdentified, NodeArrived)
    assert tell(shard, enter(group="voip")) == (NodeEntered,)
