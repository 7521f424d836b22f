"""What `dnms plan apply` says where the API cannot reach the log: whether the plan is in it is what one has to know."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from dnms.cli import main
from dnms.cli.exits import UNREACHABLE
from tests.system.cli.conftest import PLAN


@contextmanager
def answering(why: str) -> Iterator[str]:
    """The URL of a server that answers as the API does without its log."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            body = json.dumps({"status": 503, "why": why, "detail": "no answer from the bus"}).encode()
            self.send_response(503)
            self.send_header("Content-Type", "application/problem+json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing: stderr is looked at."""

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize(
    ("why", "said"),
    [
        ("unavailable", ["nothing was applied: no answer from the bus; `dnms serve` logs why"]),
        (
            "unanswered",
            ["no answer from the bus", "perhaps it was applied; apply it again, which changes nothing if it was"],
        ),
        ("views-absent", ["no answer from the bus"]),
    ],
)
def test_it_says_whether_the_plan_is_in_the_log(
    why: str, said: list[str], tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DNMS_API_TOKEN", "any")
    file = tmp_path / "plan.toml"
    file.write_text(PLAN)
    with answering(why) as url:
        code = main(["plan", "apply", str(file), "--api", url])
    out, err = capfd.readouterr()
    assert (code, out) == (UNREACHABLE, "")
    assert err.splitlines() == [f"dnms: {line}" for line in said]


def test_a_file_of_nodes_goes_on_where_the_api_went_away(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DNMS_API_TOKEN", "any")
    file = tmp_path / "nodes.csv"
    file.write_text("name,duid\n" + "".join(f"host-{n},0004{n:032x}\n" for n in range(50)))
    with answering("unavailable") as url:
        code = main(["node", "add", "--from", str(file), "--api", url, "-o", "json"])
    out, err = capfd.readouterr()
    assert (code, json.loads(out)) == (UNREACHABLE, [])
    assert err.splitlines() == [
        "dnms: nothing was changed: no answer from the bus; `dnms serve` logs why",
        "dnms: 0 of 50 nodes are entered; the same command again goes on from there",
    ]
