"""A plan that is compared before it is applied, and is not applied to another one than it was compared with."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import httpx
import pytest

from dnms.api import plan as plans
from dnms.domain.forecast import SubnetForecast, foresee
from tests.system.api.test_api import PLAN, get, problem, without


async def test_a_plan_is_compared_without_being_changed(api: httpx.AsyncClient) -> None:
    found = (await api.post("/plan/diff", json=PLAN)).json()
    assert found["position"] == 0
    assert {(one["part"], one["name"], one["change"]) for one in found["changes"]} == {
        ("site", "example", "new"),
        ("realm", "default", "new"),
        ("group", "sales", "new"),
        ("subnet", "lan", "new"),
        ("pool", "six", "new"),
    }
    problem(await api.get("/plan"), 404, "not-found")
    problem(await api.post("/plan/diff", json={**PLAN, "colour": "red"}), 422, "invalid-plan")
    problem(await api.post("/plan/diff", json=without(PLAN, subnet=[])), 422, "invalid-plan")


async def test_a_plan_that_changed_meanwhile_is_not_replaced(api: httpx.AsyncClient) -> None:
    async def apply(plan: Any, tag: str) -> httpx.Response:
        return await api.post("/plan", json=plan, headers={"If-Match": tag})

    other = without(PLAN, group=[])
    compared = await api.post("/plan/diff", json=PLAN)
    assert compared.headers["etag"] == '"0"'
    first = await apply(PLAN, compared.headers["etag"])
    assert first.status_code == 200, first.text
    found = problem(await apply(other, compared.headers["etag"]), 412, "plan-changed")
    assert f"is at position {first.json()['position']}" in found["detail"]
    shown = await api.get("/plan")
    assert shown.headers["etag"] == first.headers["etag"]
    # A refusal is in the log too, and does not change the plan.
    assert (await apply(other, shown.headers["etag"])).status_code == 200
    assert (await get(api, "/plan"))["plan"]["group"] == []
    assert (await apply(PLAN, "*")).status_code == 200
    for tag in ("12", 'W/"12"', '"twelve"'):
        assert [one["path"] for one in problem(await apply(PLAN, tag), 400, "invalid-parameter")["errors"]] == [
            "If-Match"
        ]


async def test_of_two_at_once_one_is_applied(api: httpx.AsyncClient) -> None:
    """In one commit even: what was decided before in it has changed the plan."""
    tag = (await api.post("/plan/diff", json=PLAN)).headers["etag"]
    plans = [without(PLAN, group=[{"name": f"g-{n}", "number": 100 + n}]) for n in range(4)]
    answers = await asyncio.gather(*(api.post("/plan", json=plan, headers={"If-Match": tag}) for plan in plans))
    assert sorted(each.status_code for each in answers) == [200, 412, 412, 412]


async def test_what_it_would_do_to_leases_is_told(api: httpx.AsyncClient) -> None:
    """The example's log has one lease in the subnet `lan`, of 2001:db8::1."""
    plan = without(PLAN, subnet=[{"name": "lan", "prefixes": ["2001:db8::/64"]}])
    assert (await api.post("/plan", json=plan)).status_code == 200
    withdrawn = (await api.post("/plan/diff", json=without(plan, pool=[]))).json()["subnets"]
    assert [(one["subnet"], one["leases"], one["withdrawn"]) for one in withdrawn] == [("lan", 1, 1)]


async def test_while_a_large_ledger_is_looked_at_others_are_answered_and_the_ledger_goes_on(
    api: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The forecast goes on only when another change was made, and does not see it."""
    plan = without(PLAN, subnet=[{"name": "lan", "prefixes": ["2001:db8::/64"]}])
    assert (await api.post("/plan", json=plan)).status_code == 200
    begun, changed = threading.Event(), threading.Event()

    def slow(*of: Any, **more: Any) -> SubnetForecast:
        begun.set()
        assert changed.wait(20)
        return foresee(*of, **more)

    monkeypatch.setattr(plans, "foresee", slow)
    asked = asyncio.create_task(api.post("/plan/diff", json=without(plan, pool=[])))
    assert await asyncio.to_thread(begun.wait, 20)
    reserved = await api.post("/addresses/2001:db8::77/reservation", json={"node": "00:04:" + "0" * 32})
    moved = await api.post("/addresses/2001:db8::1/move", json={})
    changed.set()
    assert (reserved.status_code, moved.status_code) == (200, 200), (reserved.text, moved.text)
    withdrawn = (await asked).json()["subnets"]
    assert [(one["subnet"], one["leases"], one["withdrawn"]) for one in withdrawn] == [("lan", 1, 1)]
    after = (await api.post("/plan/diff", json=without(plan, pool=[]))).json()["subnets"]
    assert [one["leases"] for one in after] == [2]  # the old one is still to be drained


async def test_a_rollout_is_shown_and_steered(api: httpx.AsyncClient) -> None:
    """The example's log has one lease in the subnet `lan`, so somebody is to be told."""
    subnet = {"name": "lan", "prefixes": ["2001:db8::/64"], "dns": ["2001:db8::53"], "rollout": {"canaries": 2}}
    assert (await api.post("/plan", json=without(PLAN, subnet=[subnet]))).status_code == 200
    assert (await get(api, "/rollouts"))["items"] == []
    problem(await api.post("/rollouts/lan", json={"to": "pause"}), 409, "no-rollout")
    problem(await api.post("/rollouts/nowhere", json={"to": "pause"}), 404, "not-found")
    problem(await api.post("/rollouts/lan", json={"to": "stop"}), 400, "invalid-parameter")
    # What adopts a plan for a ledger begins the rollout; here a reservation does, in the place of an agent.
    await api.post("/addresses/2001:db8::99/reservation", json={"node": "00:04:0c"})
    other = without(PLAN, subnet=[{**subnet, "dns": ["2001:db8::54"]}])
    assert (await api.post("/plan", json=other)).status_code == 200
    await api.post("/addresses/2001:db8::98/reservation", json={"node": "00:04:0d"})
    paused = (await api.post("/rollouts/lan", json={"to": "pause"})).json()
    assert (paused["subnet"], paused["events"]) == ("lan", ["rollout.paused"])
    [row] = (await get(api, "/rollouts", min_seq=paused["position"]))["items"]
    assert (row["subnet"], row["status"], row["wave"], row["told"]) == ("lan", "paused", "2 canaries", 0)
    problem(await api.post("/rollouts/lan", json={"to": "pause"}), 409, "not-running")
    for to, event in (("resume", "rollout.resumed"), ("abort", "rollout.aborted")):
        assert (await api.post("/rollouts/lan", json={"to": to})).json()["events"] == [event]
