"""`dnms wait`, over the API and from the views."""

from __future__ import annotations

import json
import threading

import pytest

from dnms.cli import main
from dnms.cli.exits import LATE, NO, OK, USAGE
from dnms.events.configuration import Generation
from dnms.events.effect import EffectApplied
from dnms.events.seen import AppliedItem, ConfigurationApplied
from tests.system.cli.conftest import ALPHA, HELD, HOUR, NOON, Served, write

LATER = NOON + 4 * HOUR
FAR = 1 << 40


@pytest.fixture(params=["API", "views"])
def source(request: pytest.FixtureRequest, served: Served, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    for name, value in served.environment.items():
        monkeypatch.setenv(name, value)
    return ["--data", str(served.directory)] if request.param == "views" else []


def test_who_has_not_applied_it_is_named_with_a_code_of_its_own(
    source: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    words = ["wait", "alpha", "--for", "configured,door", "--timeout", "0.3", "-o", "json", *source]
    assert main(words) == LATE
    out, err = capfd.readouterr()
    rows = json.loads(out)
    assert [(row["what"], row["has"], row["done"]) for row in rows] == [("configured", 2, False), ("door", 0, False)]
    assert f"dnms: configured/{ALPHA.hex()} on office has applied the log up to 2, and not " in err
    assert "dnms: door never ran for this site" in err


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ("wait alpha --for ,", USAGE, "expected --for configured"),
        ("wait alpha --timeout -1", USAGE, "--timeout of 0 or more"),
        ("wait nobody", NO, "there is no node with the name"),
        ("wait beta", USAGE, "beta"),
        ("wait 2001:db8::/48 --for routes", NO, "has had nothing that routes could apply"),
        ("wait alpha --for routes", NO, "alpha has had nothing that routes could apply"),
    ],
)
def test_what_cannot_be_waited_for_is_told_at_once(
    source: list[str], words: str, code: int, said: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main([*words.split(), *source]) == code
    out, err = capfd.readouterr()
    assert (out, said in err) == ("", True), err


def test_it_returns_once_all_have_said_so(
    served: Served, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in served.environment.items():
        monkeypatch.setenv(name, value)
    words = ["wait", "2001:db8:1:1::a", "--for", "configured,firewall", "--instance", "gate", "--timeout", "60"]
    assert main([*words[:-1], "0"]) == LATE
    capfd.readouterr()
    codes: list[int] = []
    waiting = threading.Thread(target=lambda: codes.append(main([*words, "-o", "json"])))
    waiting.start()
    items = (AppliedItem(address=HELD, outcome="usable"),)
    said = ConfigurationApplied(client=ALPHA, generation=Generation(0, 1, FAR), items=items)
    write(served, [("seen.office.west", LATER, (said,))])
    write(served, [("effect.firewall.gate", LATER, (EffectApplied(position=FAR),))])
    waiting.join(60)
    out, err = capfd.readouterr()
    assert codes == [OK], err
    assert [(row["what"], row["done"], row["why"]) for row in json.loads(out)] == [
        ("configured", True, ""),
        ("firewall", True, ""),
    ]
