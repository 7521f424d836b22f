from __future__ import annotations

import msgspec
import pytest

from dnms.domain.aggregate import Refused
from dnms.domain.identity import duid_of_hardware
from dnms.domain.nodes import NodeShard
from dnms.events.node import NodeArrived, NodeEntered, NodeForgotten, NodeIdentified, NodeJoined, NodeParted, NodeReady
from dnms.events.recorded import Personal, Request
from dnms.events.requests import CompleteNode, EnterNode, ForgetNode, IdentifyNode, JoinNode, PartNode

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


MAC, OTHER_MAC = Personal(b"\x02\x00\x5e\x10\x00\x01"), Personal(b"\x02\x00\x5e\x10\x00\x02")
FIRST, SECOND = bytes([1]) * 16, bytes([2]) * 16


def refused(shard: NodeShard, request: Request) -> str:
    with pytest.raises(Refused) as refusal:
        shard.decide(request, at=0, entropy=b"")
    return refusal.value.why


def test_an_entry_by_a_hardware_address_is_joined_once() -> None:
    shard = NodeShard()
    assert refused(shard, JoinNode(client=CLIENT, into=FIRST, hardware=MAC)) == "not-known"
    tell(shard, EnterNode(client=CLIENT, duid=Personal(b"\0\3"), name=Personal("web"), iaid=1, hardware=(MAC,)))
    assert refused(shard, JoinNode(client=CLIENT, into=FIRST, hardware=OTHER_MAC)) == "not-entered"
    assert refused(shard, JoinNode(client=CLIENT, into=CLIENT, hardware=MAC)) == "not-joined"
    assert tell(shard, JoinNode(client=CLIENT, into=FIRST, hardware=MAC)) == (NodeJoined,)
    assert tell(shard, JoinNode(client=CLIENT, into=FIRST, hardware=MAC)) == ()
    assert refused(shard, JoinNode(client=CLIENT, into=SECOND, hardware=MAC)) == "joined-otherwise"
    assert shard.nodes[CLIENT].joined == FIRST


def test_no_hardware_address_is_believed_of_whom_no_operator_has_entered_by_it() -> None:
    shard = NodeShard()
    tell(shard, identify())
    assert refused(shard, JoinNode(client=CLIENT, into=FIRST, hardware=MAC)) == "not-entered"
    tell(shard, enter())
    assert refused(shard, JoinNode(client=CLIENT, into=FIRST, hardware=MAC)) == "not-entered"


def test_what_is_known_by_a_hardware_address_alone_is_joined_by_that_once() -> None:
    shard = NodeShard()
    alone = IdentifyNode(
        client=CLIENT, duid=Personal(duid_of_hardware(b"\x02\x00\x5e\x10\x00\x01")), name=Personal(""), subnet="office"
    )
    tell(shard, alone)
    assert refused(shard, JoinNode(client=CLIENT, into=FIRST, hardware=OTHER_MAC)) == "not-entered"
    assert tell(shard, JoinNode(client=CLIENT, into=FIRST, hardware=MAC)) == (NodeJoined,)
    assert refused(shard, JoinNode(client=CLIENT, into=SECOND, hardware=MAC)) == "joined-otherwise"
    assert tell(shard, PartNode(client=CLIENT)) == (NodeParted,)
    assert refused(shard, JoinNode(client=CLIENT, into=FIRST, hardware=MAC)) == "parted"
    assert tell(shard, JoinNode(client=CLIENT, into=SECOND, hardware=MAC)) == (NodeJoined,)
    other = NodeShard()
    tell(other, msgspec.structs.replace(alone, kernel="6.1"))  # a Node Agent has said who it is
    assert refused(other, JoinNode(client=CLIENT, into=FIRST, hardware=MAC)) == "not-entered"


def test_a_machine_that_says_itself_who_the_entry_is_has_come_first() -> None:
    shard = NodeShard()
    tell(shard, EnterNode(client=CLIENT, duid=Personal(b"\0\3"), name=Personal("web"), iaid=1, hardware=(MAC,)))
    tell(shard, identify())
    assert refused(shard, JoinNode(client=CLIENT, into=FIRST, hardware=MAC)) == "joined-otherwise"


def test_an_operator_joins_and_parts_any_two() -> None:
    shard = NodeShard()
    assert refused(shard, PartNode(client=CLIENT)) == "not-joined"
    tell(shard, identify()), tell(shard, enter())
    assert tell(shard, JoinNode(client=CLIENT, into=FIRST)) == (NodeJoined,)
    assert tell(shard, JoinNode(client=CLIENT, into=SECOND)) == (NodeJoined,)
    assert tell(shard, PartNode(client=CLIENT)) == (NodeParted,)
    known = shard.nodes[CLIENT]
    assert (known.joined, known.entered, known.identity is not None) == (b"", None, True)


def test_an_entry_by_a_hardware_address_waits_again_when_it_is_parted_but_not_for_the_same_machine() -> None:
    shard = NodeShard()
    duid = Personal(duid_of_hardware(b"\x02\x00\x5e\x10\x00\x01"))
    entry = EnterNode(client=CLIENT, duid=duid, name=Personal("web"), iaid=1, hardware=(MAC,), group="voip")
    tell(shard, entry), tell(shard, CompleteNode(client=CLIENT))
    entered = shard.nodes[CLIENT].entered
    assert tell(shard, JoinNode(client=CLIENT, into=FIRST, hardware=MAC)) == (NodeJoined,)
    assert tell(shard, PartNode(client=CLIENT)) == (NodeParted, NodeEntered)
    waiting = shard.nodes[CLIENT]
    assert (waiting.joined, waiting.entered, waiting.ready) == (b"", entered, False)  # nothing is kept for it yet
    assert refused(shard, JoinNode(client=CLIENT, into=FIRST, hardware=MAC)) == "parted"
    assert tell(shard, JoinNode(client=CLIENT, into=SECOND, hardware=MAC)) == (NodeJoined,)
    assert refused(shard, JoinNode(client=CLIENT, into=FIRST, hardware=MAC)) == "joined-otherwise"


def test_an_operator_who_joins_what_was_parted_takes_the_parting_back() -> None:
    shard = NodeShard()
    duid = Personal(duid_of_hardware(b"\x02\x00\x5e\x10\x00\x01"))
    tell(shard, EnterNode(client=CLIENT, duid=duid, name=Personal("web"), iaid=1, hardware=(MAC,)))
    for into in (FIRST, SECOND):
        tell(shard, JoinNode(client=CLIENT, into=into)), tell(shard, PartNode(client=CLIENT))
    assert shard.nodes[CLIENT].parted == (FIRST, SECOND)
    tell(shard, JoinNode(client=CLIENT, into=FIRST))
    assert shard.nodes[CLIENT].parted == (SECOND,)
