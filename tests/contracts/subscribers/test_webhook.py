"""A request at each event: what is sent, how it is signed (checked by another's library), and what answers mean."""

from __future__ import annotations

import asyncio
import base64
import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from dnms.events.effect import EffectCalled, EffectDead
from dnms.events.ip import parse_address, parse_prefix
from dnms.events.plan import SiteDefined
from dnms.events.prefix import PrefixDelegated
from dnms.events.recorded import Event
from dnms.kit.clock import SystemClock
from dnms.subscribers.caller import CallError, Happening, Kinds
from dnms.subscribers.calling import LONGEST_PAUSE
from dnms.subscribers.subscriber import Local, OptionsError
from dnms.subscribers.webhook import message
from dnms.subscribers.webhook.endpoint import SECRET, Endpoint
from tests.contracts.subscribers.calls import HOUR, Frail, calling, now, virtually
from tests.contracts.subscribers.web import Server, listening
from tests.virtual_time import pass_time

OLD, NEW = ("whsec_" + base64.b64encode(bytes([letter]) * 32).decode() for letter in b"ab")
DESK = bytes([0xD]) * 16
DELEGATED = PrefixDelegated(
    prefix=parse_prefix("2001:db8:0:10::/60"),
    client=DESK,
    iaid=7,
    delegation="to-laptops",
    next_hop=parse_address("fe80::d"),
    valid_until=2,
    horizon=3,
)


def happening(event: Event = DELEGATED) -> Happening:
    return Happening(
        log_id="one",
        sequence=12,
        index=3,
        subject="dnms.example.ledger.home",
        time=1_750_000_000_000_000,
        stored_at=0,
        actor="agent/east",
        event=event,
    )


@pytest.fixture
def server() -> Iterator[Server]:
    with listening() as found:
        yield found


def configured(directory: Path, url: str, *, secrets: str = OLD, more: str = "") -> Local:
    (directory / "hook.secret").write_text(secrets)
    config = directory / "dnms.toml"
    config.write_text(f'[webhook]\nurl = "{url}"\nsecret = "hook.secret"\n{more}')
    return Local(site="example", config=config)


def post(local: Local, *events: Event) -> None:
    async def work() -> None:
        endpoint = Endpoint.of(local)
        try:
            for event in events:
                await endpoint.call(happening(event))
        finally:
            await endpoint.close()

    asyncio.run(work())


def test_it_is_a_cloud_event_with_a_signature_that_another_s_library_takes(server: Server, tmp_path: Path) -> None:
    post(configured(tmp_path, server.url), DELEGATED, SiteDefined(name="x", level=1))
    (headers, content), (_, second) = server.requests
    assert headers["content-type"] == "application/cloudevents+json; charset=UTF-8"
    assert headers["webhook-id"] == "one:12.3"
    told = Webhook(OLD).verify(content, headers)
    data = told.pop("data")
    assert told == {
        "specversion": "1.0",
        "id": "one:12.3",
        "source": "/dnms/example",
        "type": "dnms.prefix.delegated",
        "time": "2025-06-15T15:06:40Z",
        "datacontenttype": "application/json",
        "subject": "2001:db8:0:10::/60",
    }
    assert data["name"] == "prefix.delegated"
    assert data["fields"]["next_hop"] == "fe80::d"
    assert "subject" not in json.loads(second)
    for spoilt in ({"webhook-id": "one:12.4"}, {"webhook-timestamp": str(int(headers["webhook-timestamp"]) + 1)}):
        with pytest.raises(WebhookVerificationError):
            Webhook(OLD).verify(content, headers | spoilt)
    with pytest.raises(WebhookVerificationError):
        Webhook(NEW).verify(content, headers)


def test_while_a_secret_is_replaced_both_sign(server: Server, tmp_path: Path) -> None:
    post(configured(tmp_path, server.url, secrets=f"{NEW}\n{OLD}\n"), DELEGATED)
    [(headers, content)] = server.requests
    for secret in (OLD, NEW):
        assert Webhook(secret).verify(content, headers)["id"] == "one:12.3"


def test_an_answer_that_is_no_yes_is_told_and_a_wish_to_be_left_alone_is_heard(server: Server, tmp_path: Path) -> None:
    server.status, server.headers, server.body = 503, {"Retry-After": "120"}, b"away\n" * 500
    with pytest.raises(CallError, match=r"answered 503: away away") as failed:
        post(configured(tmp_path, server.url), DELEGATED)
    assert (failed.value.why, failed.value.not_before) == ("refused", 120.0)
    server.headers = {"Retry-After": "999999999999"}
    with pytest.raises(CallError) as failed:
        post(configured(tmp_path, server.url), DELEGATED)
    assert failed.value.not_before == 3_600.0
    server.status, server.headers = 302, {"Location": "http://127.0.0.1:1/"}  # nobody is sent elsewhere
    with pytest.raises(CallError, match="answered 302"):
        post(configured(tmp_path, server.url), DELEGATED)


@contextmanager
def silent() -> Iterator[str]:
    """Takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/"


def test_who_is_not_there_and_who_does_not_answer(tmp_path: Path) -> None:
    with silent() as url:
        with pytest.raises(CallError, match=r"did not answer within 0\.3 s") as failed:
            post(configured(tmp_path, url, more="timeout = 0.3"), DELEGATED)
        assert failed.value.why == "timeout"
    with pytest.raises(CallError, match=url.rstrip("/")) as failed:
        post(configured(tmp_path, url), DELEGATED)
    assert failed.value.why == "unreachable"


def test_what_may_be_secret_in_a_url_is_not_said(server: Server, tmp_path: Path) -> None:
    """What a call failed of stands in the log for ever."""
    url = server.url.replace("http://", "http://me:s3cret@").replace("/hook", "/hook/s3cret?token=s3cret")
    server.status = 503
    with pytest.raises(CallError, match="answered 503") as refused:
        post(configured(tmp_path, url), DELEGATED)
    with silent() as other:
        gone = url.replace(httpx.URL(url).netloc.decode(), httpx.URL(other).netloc.decode())
        with pytest.raises(CallError) as late:
            post(configured(tmp_path, gone, more="timeout = 0.3"), DELEGATED)
    with pytest.raises(CallError) as away:
        post(configured(tmp_path, gone), DELEGATED)
    assert [each.value.why for each in (refused, late, away)] == ["refused", "timeout", "unreachable"]
    assert not any("s3cret" in str(each.value) for each in (refused, late, away))


class Away:
    """A server that can be away, in virtual time."""

    def __init__(self) -> None:
        self.away = False
        self.heard: list[dict[str, Any]] = []
        self.tried: dict[str, set[str]] = {}

    def answer(self, request: httpx.Request) -> httpx.Response:
        message_id = request.headers["webhook-id"]
        self.tried.setdefault(message_id, set()).add(request.headers["webhook-timestamp"])
        if self.away:
            raise httpx.ConnectError("nobody is there", request=request)
        self.heard.append(json.loads(request.content))
        return httpx.Response(202)

    def endpoint(self) -> Endpoint:
        return Endpoint(
            httpx.URL("http://hook.test/"),
            site="example",
            secrets=message.secrets_of(OLD),
            kinds=Kinds(["node"]),
            timeout=10,
            now=now,
            transport=httpx.MockTransport(self.answer),
        )


@pytest.mark.parametrize("hours", [1, 25])
def test_one_that_is_unreachable_for_hours_loses_nothing(tmp_path: Path, hours: int) -> None:
    """Within a day all is posted, in order for each client; what failed for longer is dead, and posted when asked."""

    async def work() -> None:
        log, server = Frail(), Away()
        written = []
        async with calling(log, server.endpoint(), tmp_path):
            server.away = True
            for number in range(30):
                written.append(await log.arrived(number % 4, "lan"))
                await pass_time(hours * HOUR / 30)
            server.away = False
            await pass_time(LONGEST_PAUSE + 60)
            dead = sorted(each.sequence for each in log.of(EffectDead))
            assert bool(dead) == (hours > 24)
            posted = [int(each["data"]["sequence"]) for each in server.heard]
            assert sorted(posted + dead) == written
            for client in range(4):
                its = [each for each in posted if written.index(each) % 4 == client]
                assert its == sorted(its)
            await log.ask()
            await pass_time(60)
        assert sorted(int(each["data"]["sequence"]) for each in server.heard) == written
        assert max(map(len, server.tried.values())) > 3  # one id, and each time the time of the attempt
        assert (log.of(EffectCalled)[-1].waiting, len(log.of(EffectDead))) == (0, len(dead))

    virtually(work)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('[webhook]\nsecret = "s"', r"missing required field `url` - at `\$\.webhook`"),
        ('[webhook]\nurl = "example.net/x"\nsecret = "s"', r"Expected a URL .* - at `\$\.webhook\.url`"),
        ('[webhook]\nurl = "https:///x"\nsecret = "s"', r"Expected a URL .* - at `\$\.webhook\.url`"),
        ('[webhook]\nurl = "http://x/"\nsecret = "none"', r"cannot read .*none.* - at `\$\.webhook\.secret`"),
        (f'[webhook]\nurl = "http://x/"\nsecret = "{OLD}"', r"expected the name of a file .*`\$\.webhook\.secret`"),
        ('[webhook]\nurl = "http://x/"\nsecret = "bad"', r"expected whsec_ and 24 to 64 .* - at `\$\.webhook\.secret`"),
        ('[webhook]\nurl = "http://x/"\nsecret = "empty"', r"there is no secret.* - at `\$\.webhook\.secret`"),
        ('[webhook]\nurl = "http://x/"', rf"expected a key `secret` that names a file, or {SECRET}"),
        ('[webhook]\nurl = "http://x/"\nurls = 1', r"unknown field `urls`; known are .* - at `\$\.webhook`"),
    ],
)
def test_a_mistake_in_the_file_is_told_with_its_place(tmp_path: Path, text: str, why: str) -> None:
    config = tmp_path / "dnms.toml"
    config.write_text(text)
    (tmp_path / "bad").write_text(f"{OLD}\nwhsec_c2hvcnQ=\n")
    (tmp_path / "empty").write_text("\n")
    with pytest.raises(OptionsError, match=why) as refused:
        Endpoint.of(Local(site="example", config=config))
    assert OLD not in str(refused.value)


def test_the_secret_may_come_from_the_environment(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "dnms.toml"
    config.write_text(f'[webhook]\nurl = "{server.url}"')
    monkeypatch.setenv(SECRET, OLD)
    began = SystemClock().now()
    post(Local(site="example", config=config), DELEGATED)
    [(headers, content)] = server.requests
    assert Webhook(OLD).verify(content, headers)
    assert int(headers["webhook-timestamp"]) >= began // 1_000_000
    monkeypatch.setenv(SECRET, "whsec_")
    with pytest.raises(OptionsError, match=SECRET):
        Endpoint.of(Local(site="example", config=config))
