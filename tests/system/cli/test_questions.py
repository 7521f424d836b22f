"""Questions, asked of the API and of the views themselves: the same answers."""

from __future__ import annotations

import csv
import io
import json
import time
from pathlib import Path
from typing import Any

import pytest

from dnms.cli import main
from dnms.cli.exits import NO, OK, REFUSED, UNREACHABLE, USAGE
from tests.system.cli.conftest import ALPHA, BETA, PATIENCE, TWIN, Served, dnms


@pytest.fixture(scope="module")
def folded(served: Served) -> Served:
    """The site once its views have all that was written: nine events of nodes and leases, three that were seen."""
    deadline = time.monotonic() + PATIENCE
    while "configuration.applied" not in dnms("event", "list", environment=served.environment).out:
        assert time.monotonic() < deadline
    return served


class Asked:
    """Asks in this process, as `dnms` does."""

    def __init__(self, served: Served, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
        self._capfd = capfd
        self._data = str(served.directory)
        for name, value in served.environment.items():
            monkeypatch.setenv(name, value)

    def api(self, words: str) -> tuple[int, str, str]:
        """The exit code, stdout and stderr over the API."""
        return main(words.split()), *self._capfd.readouterr()

    def data(self, words: str) -> tuple[int, str, str]:
        """The same from the views."""
        return main([*words.split(), "--data", self._data]), *self._capfd.readouterr()

    def json(self, words: str) -> Any:
        """What the API says, which is what the views say."""
        code, out, err = self.api(f"{words} -o json")
        assert (code, err) == (OK, "")
        return json.loads(out)


@pytest.fixture
def ask(folded: Served, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Asked:
    return Asked(folded, capfd, monkeypatch)


LISTS = [
    ("who-had 2001:db8:1:1::/64", OK),
    ("who-had 2001:db8:1:1::/64 --from 2026-03-01T13:00:00Z --to 2026-03-01T13:30:00Z", OK),
    ("who-had 2001:db8:1:1::5 --to 2026-03-01T12:30:00Z", OK),
    ("who-had 2001:db8:1:1::5 --from 2026-03-01T13:30:00Z --to 2026-03-01T13:40:00Z", NO),
    ("who-had 192.0.2.0/24", NO),
    ("who-had 2001:db8:1:1::5/64", OK),
    ("who-had 2001:db8:1:1::5 --at #5", OK),
    ("who-had 2001:db8:1:1::/64 --at #5", OK),
    ("who-had 2001:db8:1:1::5 --at #5000", NO),
    ("who-had 2001:db8:1:1::5 --at #5 --to 2026-03-01", USAGE),
    ("node history alpha --at #6", OK),
    ("node history alpha", OK),
    ("node history alpha --at 2026-03-01T12:30:00Z", OK),
    ("node history alpha --to 2026-02-01", NO),
    ("node history beta", USAGE),
    ("node history nobody", NO),
    ("address history 2001:db8:1:1::5", OK),
    ("address history 2001:db8:1:1::ff --since 2026-03-01", OK),
    ("address history 192.0.2.200", NO),
    ("prefix history 2001:db8:1:1::/64", OK),
    ("prefix history 2001:db8:9::/48", NO),
    ("subnet changes office", OK),
    ("subnet changes office --until 2026-03-01T12:30:00Z", OK),
    ("subnet changes nowhere", NO),
    ("rollout status", OK),
    ("rollout status office", OK),
    ("subscriber list", OK),
    ("audit", OK),
    ("audit --limit 3", OK),
    ("audit --actor agent/east --kind address", OK),
    ("audit --actor agent/nobody", NO),
    ("audit --actor east", NO),
    ("audit --entity alpha", OK),
    ("audit --entity office-v6", OK),
    ("audit --entity alpha --since 2026-03-01 --until 2026-03-02", OK),
    ("audit --entity nowhere", NO),
    ("audit --grep PHONE --grep voip", OK),
    ("audit --cause plan.apply", OK),
    ("audit --cause address.release", NO),
    ("audit --cause nothing", USAGE),
    ("audit --kind adress", USAGE),
    ("activity", OK),
    ("activity --by kind --by subnet --kind address", OK),
    ("activity --each day --subnet office", OK),
    ("activity --kind adress", USAGE),
]


@pytest.mark.parametrize("output", ["table", "json", "jsonl", "csv"])
@pytest.mark.parametrize(("words", "code"), LISTS)
def test_histories_of_the_api_and_the_views_are_the_same(ask: Asked, words: str, code: int, output: str) -> None:
    over_api, from_views = ask.api(f"{words} -o {output}"), ask.data(f"{words} -o {output}")
    assert over_api == from_views
    assert over_api[0] == code, over_api
    assert "Traceback" not in over_api[2]


def test_a_list_is_the_same_as_json_as_lines_and_as_csv(ask: Asked) -> None:
    for words in ("audit", "who-had 2001:db8:1:1::/64", "event list", "node list", "address list", "pool list"):
        rows = ask.json(words)
        lines = ask.api(f"{words} -o jsonl")[1].splitlines()
        assert [json.loads(line) for line in lines] == rows
        table = list(csv.reader(io.StringIO(ask.api(f"{words} -o csv")[1])))
        assert table[0] == list(rows[0])
        assert len(table) == len(rows) + 1
        for cells, row in zip(table[1:], rows, strict=True):
            for cell, value in zip(cells, row.values(), strict=True):
                assert cell == (value or "") if value is None or isinstance(value, str) else json.loads(cell) == value
    assert ask.api("who-had 192.0.2.9 -o csv")[1].startswith("address,client,node,source,subnet,")


@pytest.mark.usefixtures("ask")
def test_words_for_a_time_are_said_back(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["audit", "--limit", "1", "--until", "1 march 2030 UTC"]) == OK
    out, err = capfd.readouterr()
    assert "2026-" in out
    assert err == "dnms: '1 march 2030 UTC' is Friday 2030-03-01 00:00:00+00:00 (UTC), 2030-03-01 00:00:00Z\n"


def test_who_leaves_out_what_a_writer_is_hears_who_may_be_meant(ask: Asked) -> None:
    assert "did you mean 'agent/east'?" in ask.api("audit --actor east")[2]


def test_who_had_a_prefix_in_a_time(ask: Asked) -> None:
    found = ask.json("who-had 2001:db8:1:1::/64 --from 2026-03-01T12:30:00Z --to 2026-03-01T13:00:00Z")
    assert [(one["address"], one["node"], one["source"], one["sure"]) for one in found] == [
        ("2001:db8:1:1::5", "beta", "lease", "single"),
        ("2001:db8:1:1::a", "alpha", "lease", "single"),
    ]
    now = ask.json("who-had 2001:db8:1:1::a --at 2026-03-01T15:00:00Z")
    assert [(one["source"], one["sure"]) for one in now] == [("lease", "confirmed"), ("registered", "confirmed")]
    assert [one["node"] for one in ask.json("who-had fe80::a")] == ["alpha"]


def test_what_a_node_had_at_a_time(ask: Asked) -> None:
    then = ask.json("node history alpha --at 2026-03-01T12:30:00Z")
    assert [(one["address"], one["source"]) for one in then] == [("2001:db8:1:1::a", "lease")]
    later = ask.json("node history alpha --at 2026-03-01T16:00:00Z")
    assert {one["address"] for one in later} == {f"2001:db8:1:1::{last}" for last in ("5", "a", "ff")} | {"fe80::a"}


def test_what_happened_to_an_address(ask: Asked) -> None:
    names = [(one["name"], one["node"]) for one in ask.json("address history 2001:db8:1:1::5")]
    assert names == [
        ("subnet.defined", None),
        ("pool.defined", None),
        ("address.allocated", "beta"),
        ("address.released", "beta"),
        ("address.allocated", "alpha"),
    ]


def test_an_audit_says_who_asked_for_what(ask: Asked) -> None:
    defined = ask.json("audit --entity office-v6 --kind pool.defined")
    assert [(one["request"], one["actor"], one["fields"]["pool"]["name"]) for one in defined] == [
        ("plan.apply", "operator/api", "office-v6")
    ]
    assert {one["name"] for one in ask.json("audit --grep phone-")} == {"group.defined"}


def test_activity_by_hour_adds_up(ask: Asked) -> None:
    hours = ask.json("activity --subnet office --since 2026-03-01 --until 2026-03-02")
    assert [(one["time"], one["events"]) for one in hours] == [
        ("2026-03-01T12:00:00Z", 4),
        ("2026-03-01T13:00:00Z", 1),
        ("2026-03-01T14:00:00Z", 1),
        ("2026-03-01T15:00:00Z", 3),
    ]
    [day] = ask.json("activity --each day --subnet office --since 2026-03-01 --until 2026-03-02")
    assert day["events"] == 9


@pytest.mark.parametrize("output", ["table", "json"])
@pytest.mark.parametrize(
    ("words", "code"),
    [
        ("node list", OK),
        ("node list --subnet office", OK),
        ("node list --subnet nowhere", OK),
        ("node show alpha", OK),
        (f"node show {BETA.hex()}", OK),
        (f"node show {BETA.hex()[:8]}", OK),
        ("node show beta", USAGE),
        ("node show nobody", NO),
        ("address list", OK),
        ("address list --subnet office", OK),
        ("address show 2001:DB8:1:1:0::a", OK),
        ("address show 2001:db8:1:1::ff", OK),
        ("address show 192.0.2.9", NO),
        ("pool list", OK),
        ("pool list --subnet nowhere", OK),
        ("pool show office-v6", OK),
        ("pool show nowhere", NO),
        ("who-had 2001:db8:1:1::5", OK),
        ("who-had 2001:db8:1:1::5 --at 2026-03-01T12:30:00Z", OK),
        ("who-had 2001:db8:1:1::5 --at 1772368200", OK),
        ("who-had 2001:db8:1:1::5 --at 2026-03-01T15:30:00+02:00", NO),
        ("who-had 192.0.2.9", NO),
        ("event list", OK),
        ("event list --limit 3", OK),
        ("event list --kind address", OK),
        ("event list --kind address.released", OK),
        ("event list --node alpha --address 2001:db8:1:1::a", OK),
        ("event list --kind adress", USAGE),
        ("event list --node beta", USAGE),
        ("event list --node nobody", NO),
    ],
)
def test_the_api_and_the_views_say_the_same(ask: Asked, words: str, code: int, output: str) -> None:
    over_api, from_views = ask.api(f"{words} -o {output}"), ask.data(f"{words} -o {output}")
    assert over_api == from_views
    assert over_api[0] == code
    assert "Traceback" not in over_api[2]


def test_nodes(ask: Asked) -> None:
    nodes = {node["client"]: node for node in ask.json("node list")}
    assert set(nodes) == {ALPHA.hex(), BETA.hex(), TWIN.hex()}
    alpha = nodes[ALPHA.hex()]
    assert (alpha["name"], alpha["subnet"], alpha["session"], alpha["agent"]) == ("alpha", "office", "open", "east")
    assert alpha["outcomes"] == {"2001:db8:1:1::a": "usable"}
    about = ask.json("node show alpha")
    assert {one["address"]: (one["leased"], one["registered"]) for one in about["addresses"]} == {
        "2001:db8:1:1::5": (True, False),
        "2001:db8:1:1::a": (True, True),
        "2001:db8:1:1::ff": (False, True),
    }


def test_nodes_of_one_name_are_told_apart(ask: Asked) -> None:
    names = [line.split("  ")[0] for line in ask.api("node list")[1].splitlines()[2:]]
    assert names == ["alpha", *sorted(f"beta ({client.hex()[:8]})" for client in (BETA, TWIN))]
    code, _, err = ask.api("event tail --node beta")
    assert code == USAGE
    assert all(client.hex() in err for client in (BETA, TWIN))


def test_who_waits_for_what_never_comes_hears_it(ask: Asked) -> None:
    code, out, err = ask.api("event tail --kind address.alocated")
    assert (code, out) == (USAGE, "")
    assert "address.allocated" in err
    assert ask.api("node list --subnet nowhere")[2] == "dnms: no node on a subnet 'nowhere'\n"


def test_a_pool_of_ipv6_is_told_by_nodes_and_the_odds_of_a_collision(ask: Asked) -> None:
    pool = ask.json("pool show office-v6")
    assert (pool["held"], pool["nodes"], pool["reserved"], pool["exhausted"]) == (2, 1, 0, None)
    assert (pool["given_last_day"], pool["ended_last_day"]) == (3, 1)
    assert pool["collisions"]["next"] == 2 / (1 << 48)
    said = ask.api("pool show office-v6")[1]
    assert "2, by 1 node " in said
    assert "%" not in said


def test_who_had_an_address(ask: Asked) -> None:
    ever = ask.json("who-had 2001:db8:1:1::5")
    assert [(one["node"], one["since"], one["until"]) for one in ever] == [
        ("alpha", "2026-03-01T14:00:00Z", None),
        ("beta", "2026-03-01T12:00:00Z", "2026-03-01T13:00:00Z"),
    ]
    then = ask.json("who-had 2001:db8:1:1::5 --at 2026-03-01T12:30:00Z")
    assert [one["node"] for one in then] == ["beta"]
    code, out, err = ask.api("who-had 2001:db8:1:1::5 --at 2026-03-01T13:30:00Z -o json")
    assert (code, json.loads(out)) == (NO, [])
    assert err == "dnms: nobody had 2001:db8:1:1::5 at 2026-03-01 13:30:00Z, as far as the log knows\n"


def test_events_are_the_newest_in_the_order_of_the_log(ask: Asked) -> None:
    events = ask.json("event list --limit 3")
    assert [one["name"] for one in events] == ["session.opened", "configuration.registered", "configuration.applied"]
    assert [one["index"] for one in events] == [0, 1, 2]
    of_alpha = ask.json("event list --node alpha --kind address")
    assert [one["fields"]["address"] for one in of_alpha] == ["2001:db8:1:1::a", "2001:db8:1:1::5"]


def test_pools(ask: Asked) -> None:
    [pool] = ask.json("pool list")
    assert (pool["pool"], pool["size"], pool["held"]) == ("office-v6", 1 << 64, 2)
    assert "2^64" in ask.api("pool list")[1]


def test_a_wrong_token(ask: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DNMS_API_TOKEN", "wrong")
    code, out, err = ask.api("node list -o json")
    assert (code, out) == (REFUSED, "")
    assert err == "dnms: the API refuses the token; name its site's directory with --site, or set DNMS_API_TOKEN\n"


def test_what_answers_is_no_api(ask: Asked, served: Served) -> None:
    code, out, err = ask.api(f"node list --api {served.bus.replace('nats:', 'http:')}")
    assert (code, out) == (UNREACHABLE, "")
    assert err.count("\n") == 1


def test_the_token_alone_is_enough(folded: Served, tmp_path: Path) -> None:
    token = (folded.directory / "api.token").read_text()
    environment = {"DNMS_API": folded.api, "DNMS_API_TOKEN": token, "DNMS_SITE": str(tmp_path / "none")}
    assert dnms("pool", "list", environment=environment).code == OK
