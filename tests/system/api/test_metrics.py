"""Metrics as Prometheus reads them, and the health of the server."""

from __future__ import annotations

import httpx
from prometheus_client.parser import text_string_to_metric_families

from dnms.events.seen import SessionOpened
from dnms.projections.example import ALICE, happened
from tests.contracts.projections.logs import write
from tests.system.api.conftest import PATIENCE, Served
from tests.system.api.test_api import PLAN, problem


async def scraped(api: httpx.AsyncClient, served: Served) -> dict[str, float]:
    """The samples, by name and the values of their labels in the order of the labels' names."""
    answer = await api.get(served.url.replace("/api/v1", "/metrics"))
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("text/plain; version=")
    return {
        " ".join([sample.name, *dict(sorted(sample.labels.items())).values()]): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


async def test_metrics(api: httpx.AsyncClient, served: Served) -> None:
    applied = (await api.post("/plan", json=PLAN)).json()
    await write(served.log, happened("seen.lab.west", 1, SessionOpened(client=ALICE, peer=bytes(16))))
    end = len(served.log.records)
    assert await served.views.reached(end, within=PATIENCE)
    assert (await api.get("/nodes/nobody")).status_code == 404
    found = await scraped(api, served)
    assert found["dnms_views_watermark"] == found["dnms_log_end"] == end > applied["position"]
    assert found["dnms_views_behind"] == 0
    assert found["dnms_log_reachable"] == found["dnms_views_kept_up"] == 1
    assert [name for name, value in found.items() if name.startswith("dnms_views_state") and value] == [
        "dnms_views_state following"
    ]
    assert found["dnms_commits_total"] == end
    assert found["dnms_pool_size six lan"] == 2.0**64
    assert found["dnms_pool_addresses six held lan"] == 1
    assert found["dnms_nodes"] == 2
    assert found["dnms_sessions_open west lab"] == 1
    assert found["dnms_http_requests_total GET /api/v1/nodes/{node} 404"] == 1
    assert found["dnms_http_request_duration_seconds_count POST /api/v1/plan"] == 1


async def test_metrics_say_that_there_are_no_views(api: httpx.AsyncClient, served: Served) -> None:
    served.path.unlink()
    found = await scraped(api, served)
    assert found["dnms_views_state rebuilding"] == 1
    assert "dnms_nodes" not in found
    root = served.url.removesuffix("/api/v1")
    problem(await api.get(f"{root}/readyz"), 503, "not-ready")
    assert (await api.get(f"{root}/healthz")).json() == {"status": "alive"}


async def test_health_needs_no_token_and_metrics_do(served: Served) -> None:
    root = served.url.removesuffix("/api/v1")
    async with httpx.AsyncClient(timeout=PATIENCE, trust_env=False) as anybody:
        assert (await anybody.get(f"{root}/healthz")).json() == {"status": "alive"}
        assert (await anybody.get(f"{root}/readyz")).json() == {"status": "ready"}
        problem(await anybody.get(f"{root}/metrics"), 401, "unauthorized")
