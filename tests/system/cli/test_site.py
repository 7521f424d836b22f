"""A site from `dnms init` to the end, as a user has it."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dnms.cli import main
from dnms.cli.exits import INTERRUPTED, MACHINE, NO, OK, READER_GONE, UNREACHABLE, USAGE
from dnms.disk.site import LAYOUT
from tests.system.cli.conftest import DNMS, NAME, PATIENCE, PLAN, Served, dnms, history, serving, write


def one_line(err: str) -> str:
    """The only line on stderr."""
    assert err.count("\n") == 1, err
    assert err.startswith("dnms: ")
    return err


def test_a_site_is_made_once(site: Path, tmp_path: Path) -> None:
    again = dnms("init", NAME, "--site", site)
    assert (again.code, again.out) == (USAGE, "")
    assert "holds a site already; nothing was changed" in one_line(again.err)
    assert dnms("init", "No Name", "--site", tmp_path / "other").code == USAGE
    file = tmp_path / "file"
    file.write_text("")
    assert dnms("init", NAME, "--site", file / "site").code == MACHINE


@pytest.mark.parametrize("words", [["serve"], ["view", "verify"], ["node", "list"], ["node", "list", "--data"]])
def test_no_site(tmp_path: Path, words: list[str]) -> None:
    where = [tmp_path] if words[-1] == "--data" else ["--site", tmp_path]
    done = dnms(*words, *where)
    assert (done.code, done.out) == (MACHINE, "")
    assert "`dnms init` makes a new one" in one_line(done.err)


def test_a_site_of_a_newer_release(tmp_path: Path) -> None:
    dnms("init", NAME, "--site", tmp_path)
    settings = (tmp_path / "site.toml").read_text()
    (tmp_path / "site.toml").write_text(settings.replace(f"version = {LAYOUT}", f"version = {LAYOUT + 1}"))
    done = dnms("serve", "--site", tmp_path)
    assert (done.code, done.out) == (MACHINE, "")
    assert "made by a newer release" in one_line(done.err)


def test_nobody_serves(site: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # and does not listen
        port = unused.getsockname()[1]
        done = dnms("pool", "list", "--site", site, "--api", f"http://127.0.0.1:{port}")
        assert (done.code, done.out) == (UNREACHABLE, "")
        assert "is `dnms serve` running there?" in one_line(done.err)
        done = dnms("serve", "--site", site, "--listen", "127.0.0.1:0", "--bus", f"nats://127.0.0.1:{port}")
        assert (done.code, done.out) == (UNREACHABLE, "")
        assert "no connection to the bus" in one_line(done.err)


def test_ports_in_use(site: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        taken = f"127.0.0.1:{other.getsockname()[1]}"
        for listen, bus in ((taken, "127.0.0.1:0"), ("127.0.0.1:0", taken)):
            done = dnms("serve", "--site", site, "--listen", listen, "--bus-listen", bus)
            assert (done.code, done.out) == (MACHINE, "")
            assert f"port {other.getsockname()[1]}" in done.err
            assert "in use" in done.err
            assert "Traceback" not in done.err


def test_a_site_is_served_once(served: Served) -> None:
    done = dnms("serve", "--site", served.directory, "--listen", "127.0.0.1:0", "--bus-listen", "127.0.0.1:0")
    assert (done.code, done.out) == (MACHINE, "")
    assert "stop it first" in one_line(done.err)


def test_the_plan_is_shown_as_it_can_be_applied(served: Served, tmp_path: Path) -> None:
    shown = dnms("plan", "show", environment=served.environment)
    assert shown.code == OK
    file = tmp_path / "again.toml"
    file.write_text(shown.out)
    again = dnms("plan", "apply", file, "-o", "json", environment=served.environment)
    assert (again.code, json.loads(again.out)["events"]) == (OK, [])
    document = json.loads(dnms("plan", "show", "-o", "json", environment=served.environment).out)
    assert document["site"] == {"name": NAME, "level": 1}
    assert document["group"] == [{"name": "voip", "number": 0x5A1E, "nodes": ["phone-*"]}]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("[site]", "[site"), "not TOML"),
        (
            ('range = "2001:db8:1:1::/64"', "range = 7"),
            "$.pool[0].range ('office-v6'): Expected a prefix, or",
        ),
        (('name = "office-v6"\n', 'name = "office-v6"\nlease = 60\n'), "$.pool[0] ('office-v6'): "),
        (("192.0.2.0/28", "192.0.2.0/33"), "$.subnet[0].prefixes[1] ('office'): "),
        (('"192.0.2.0/28"', '"2001:db8:1::/48"'), "$.subnet[0].prefixes[0] ('office'): "),
        (('range = "2001:db8:1:1::/64"', 'range = "2001:db8:1:2::/64"'), "$.pool[0].range ('office-v6'): "),
        ((f'name = "{NAME}"', 'name = "other"'), "$.site.name: "),
        (("0x5a1e", "0xfdff"), "$.group[0].number ('voip'): "),
    ],
)
def test_a_wrong_plan_changes_nothing(served: Served, tmp_path: Path, change: tuple[str, str], said: str) -> None:
    assert change[0] in PLAN
    before = dnms("plan", "show", environment=served.environment).out
    file = tmp_path / "wrong.toml"
    file.write_text(PLAN.replace(*change))
    done = dnms("plan", "apply", file, environment=served.environment)
    assert (done.code, done.out) == (USAGE, "")
    assert f"dnms: {file}: {said}" in done.err
    assert "Traceback" not in done.err
    assert dnms("plan", "show", environment=served.environment).out == before


def test_every_problem_of_a_plan_has_its_line(served: Served, tmp_path: Path) -> None:
    file = tmp_path / "wrong.toml"
    file.write_text(PLAN.replace("0x5a1e", "0xffff").replace('range = "2001:db8:1:1::/64"', 'range = "192.0.3.0/24"'))
    done = dnms("plan", "apply", file, environment=served.environment)
    assert done.code == USAGE
    places = [line.split(": ")[2] for line in done.err.splitlines()[:-1]]
    assert places == ["$.group[0].number ('voip')", "$.pool[0].range ('office-v6')"]
    assert done.err.splitlines()[-1] == "dnms: nothing was changed"


class Tail:
    """A running `dnms event tail` of changed groups."""

    def __init__(self, served: Served, folder: Path, *words: str) -> None:
        environment = {**os.environ, **served.environment}
        self.process = subprocess.Popen(
            [DNMS, "event", "tail", "--kind", "group", "-o", "json", *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
            text=True,
        )
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        self.stdout, self.stderr = self.process.stdout, self.process.stderr
        os.set_blocking(self.stdout.fileno(), False)
        self._file = folder / "plan.toml"
        self._number = 0x1000

    def hears(self, served: Served) -> int:
        """Change the group's number until the tail says so, since before it listens events pass it by; the number."""
        deadline = time.monotonic() + PATIENCE
        while not (line := self.stdout.readline()):
            assert time.monotonic() < deadline
            self.change(served)
        event = json.loads(line)
        assert event["name"] == "group.defined"
        return int(event["fields"]["group"]["number"])

    def change(self, served: Served) -> int:
        """Give the group another number."""
        self._number += 1
        self._file.write_text(PLAN.replace("0x5a1e", hex(self._number)))
        assert dnms("plan", "apply", self._file, environment=served.environment).code == OK
        return self._number

    def stop(self) -> int:
        """Press Ctrl-C; the exit code."""
        self.process.send_signal(signal.SIGINT)
        with self.stdout, self.stderr:
            return self.process.wait(PATIENCE)


def test_events_as_they_come(served: Served, plan: Path, tmp_path: Path) -> None:
    for words in ([], ["--data", str(served.directory)]):
        tail = Tail(served, tmp_path, *words)
        try:
            assert tail.hears(served) > 0x1000
        finally:
            assert tail.stop() == INTERRUPTED
        assert dnms("plan", "apply", plan, environment=served.environment).code == OK


def test_a_tail_goes_on_where_it_was_when_the_server_comes_back(tmp_path: Path) -> None:
    site = tmp_path / "site"
    assert dnms("init", NAME, "--site", site).code == OK
    with serving(site) as served:
        tail = Tail(served, tmp_path)
        try:
            heard = tail.hears(served)
        except BaseException:
            tail.stop()
            raise
    try:
        assert "waiting for it" in tail.stderr.readline()
        with serving(site, listen=served.api.removeprefix("http://")) as served:
            last = tail.change(served)
            while heard != last:
                following = tail.hears(served)
                assert following == heard + 1  # nothing was lost, and nothing came twice
                heard = following
    finally:
        assert tail.stop() == INTERRUPTED


def test_views_are_verified_while_they_are_served(served: Served) -> None:
    done = dnms("view", "verify", "--bus", served.bus, "-o", "json", environment=served.environment)
    assert done.code == OK, done.err
    assert json.loads(done.out)["equal"]
    done = dnms("view", "rebuild", "--bus", served.bus, environment=served.environment)
    assert (done.code, done.out) == (MACHINE, "")
    assert "stop `dnms serve` first" in one_line(done.err)


def test_a_site_outlives_its_server(tmp_path: Path, plan: Path) -> None:
    site = tmp_path / "site"
    assert dnms("init", NAME, "--site", site).code == OK
    with serving(site) as served:
        assert dnms("plan", "show", environment=served.environment).code == NO
        assert dnms("plan", "apply", plan, environment=served.environment).code == OK
        last = write(served, history())
    # Nobody serves: the views are behind what was written while they were going down, or not, and are folded anew.
    rebuilt = dnms("view", "rebuild", "--site", site, "-o", "json")
    assert (rebuilt.code, json.loads(rebuilt.out)["sequence"]) == (OK, last)
    assert dnms("view", "verify", "--site", site).code == OK
    nodes = dnms("node", "list", "--data", site, "-o", "json")
    assert (nodes.code, len(json.loads(nodes.out))) == (OK, 3)
    assert "are kept up by nobody now" in one_line(nodes.err)
    with serving(site) as served:
        again = dnms("plan", "apply", plan, "-o", "json", environment=served.environment)
        assert json.loads(again.out)["events"] == []
        over_api = dnms("node", "list", "-o", "json", environment=served.environment)
        assert over_api.out == nodes.out


def test_views_that_differ_from_the_log_are_found(tmp_path: Path, plan: Path) -> None:
    site = tmp_path / "site"
    dnms("init", NAME, "--site", site)
    with serving(site) as served:
        dnms("plan", "apply", plan, environment=served.environment)
    change = "UPDATE pool_row SET valid = 1"
    changed = f"import sqlite3, sys; db = sqlite3.connect(sys.argv[1]); db.execute('{change}'); db.commit()"
    subprocess.run([sys.executable, "-c", changed, (site / "views.db").resolve()], check=True)
    done = dnms("view", "verify", "--site", site, "-o", "json")
    assert (done.code, json.loads(done.out)["equal"]) == (NO, False)
    assert "valid is 1 and should be 3600" in done.err


def test_serve_ends_on_ctrl_c_and_says_where_it_listened(site: Path, tmp_path: Path) -> None:
    other = tmp_path / "site"
    dnms("init", "other", "--site", other)
    words = ["serve", "--site", str(other), "--listen", "127.0.0.1:0", "--bus-listen", "127.0.0.1:0"]
    process = subprocess.Popen([DNMS, *words], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert process.stdout is not None
    with process.stdout:
        said = dict(process.stdout.readline().split(maxsplit=1) for _ in range(4))
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE) == OK
    assert said["site"].strip() == "other"
    assert said["API"].startswith("http://127.0.0.1:")
    assert said["bus"].startswith("nats://127.0.0.1:")


def test_the_reader_of_the_output_may_go(served: Served) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as gone:
        for words in (["plan", "show"], ["event", "list", "-o", "json"]):
            done = subprocess.run(
                [DNMS, *words],
                stdout=gone,
                stderr=subprocess.PIPE,
                env={**os.environ, **served.environment},
                check=False,
                timeout=PATIENCE,
            )
            assert (done.returncode, done.stderr) == (READER_GONE, b"")


def test_a_full_disk_below_the_output(served: Served) -> None:
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [DNMS, "plan", "show", "-o", "json"],
            stdout=full,
            stderr=subprocess.PIPE,
            env={**os.environ, **served.environment},
            check=False,
            timeout=PATIENCE,
        )
    assert done.returncode == MACHINE
    assert done.stderr.startswith(b"dnms: no space left on the disk")


@pytest.mark.parametrize("agent", ["node-agent", "subnet-agent"])
def test_agents_start_without_the_command_line_of_the_others(agent: str) -> None:
    code = (
        "import sys\nfrom dnms.cli import main\n"
        "try:\n    main(sys.argv[1:])\nexcept SystemExit:\n    pass\n"
        "print(sorted({'cyclopts', 'litestar', 'httpx'} & sys.modules.keys()), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, agent, "--help"], capture_output=True, text=True, check=True, timeout=PATIENCE
    )
    assert done.stderr.strip() == "[]"


def test_the_uplink_of_a_subnet_agent_is_another_interface(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["subnet-agent", "--interface", "eth1", "--subnet", "lan", "--uplink", "eth1"])
    assert ended.value.code == USAGE
    assert capfd.readouterr().err.startswith("dnms: --uplink is the interface towards the one above")
