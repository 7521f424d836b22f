"""A plan from anybody's editor, or anybody's JSON: it is a plan, or it is refused with the place, and nothing else."""

from __future__ import annotations

import contextlib
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from dnms.domain.aggregate import Refused
from dnms.domain.document import DocumentError, from_builtins, from_toml, to_builtins
from dnms.domain.plan import PlanState
from tests.unit.domain.conftest import PLAN

OF_GROUP = """
[[subnet.group]]
name = "voip"
gateways = ["fe80::5"]
routes = [{ destination = "::/0", gateway = "fe80::5" }]
dns = []
search = ["example"]
ntp = ["2001:db8::123"]
mtu = 1400
[[rule]]
name = "calls"
direction = "ingress"
from = ["subnet:office", "2001:db8:f::/48"]
to = "group:voip"
protocol = "udp"
ports = ["5060"]
"""
words = st.sampled_from(["site", "subnet", "pool", "group", "realm", "name", "range", "prefixes", "number", "valid"])
values: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(max_size=20)
    | st.sampled_from(["office", "2001:db8::/64", "::/0", "0.0.0.0/0", "fe80::1", "fe80::1%eth0", "1-2", "::-::1"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(words | st.text(max_size=5), inner, max_size=5),
    max_leaves=20,
)


def taken(document: Any) -> None:
    """What the API does with it."""
    with contextlib.suppress(DocumentError):
        plan = from_builtins(document)
        assert from_builtins(to_builtins(plan)) == plan
        with contextlib.suppress(Refused):
            PlanState().decide(plan, at=0, entropy=bytes(32))


@given(st.text(max_size=200))
def test_any_text(text: str) -> None:
    with contextlib.suppress(DocumentError):
        from_toml(text)


@given(values)
def test_any_value(document: Any) -> None:
    taken(document)


@given(st.data())
def test_a_good_plan_with_one_value_replaced(data: st.DataObject) -> None:
    document = to_builtins(from_toml(PLAN + OF_GROUP))
    of_subnet = {"subnet.group": document["subnet"][0]["group"]}
    table = data.draw(st.sampled_from(["site", "group", "subnet", "pool", "rule", *of_subnet]))
    entry = document[table] if table == "site" else data.draw(st.sampled_from((document | of_subnet)[table]))
    entry[data.draw(st.sampled_from(sorted(entry)))] = data.draw(values)
    taken(document)


@given(st.integers(0, len(PLAN)))
def test_every_cut_of_a_good_plan(end: int) -> None:
    with contextlib.suppress(DocumentError):
        from_toml(PLAN[:end])
