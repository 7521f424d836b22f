"""What `bench.dhcp` sends and reads, how it searches, and how it shows what it found."""

from __future__ import annotations

import socket

import pytest

from bench import dhcp
from bench.dhcp import Report
from bench.dhcp_client import Four, Six
from bench.dhcp_load import Trial, parsed
from bench.dhcp_servers import DNMS
from bench.dhcp_trials import CONFIRMED, FINE, Avalanche, Found, Measured, search
from dnms.events.ip import MAPPED, parse_address
from dnms.wire.dhcp4 import messages as messages4
from dnms.wire.dhcp4 import server as server4
from dnms.wire.dhcp4.server import State
from dnms.wire.dhcp6.associations import IaAddress
from dnms.wire.dhcp6.codes import Kind
from dnms.wire.dhcp6.messages import decode, encode
from dnms.wire.dhcp6.server import Answer, GivenAddresses, Question, answer, question

SERVER, GIVEN = b"\x00\x04server", parse_address("2001:db8::7")
HERE, RELAY, LEASE = (parse_address(each) for each in ("10.0.0.1", "10.0.0.2", "10.1.2.3"))

SAID = """Running: perfdhcp -6
***Rate statistics***
***Statistics for: SOLICIT-ADVERTISE***
sent packets: 1000
received packets: 998
drops: 2
***Statistics for: REQUEST-REPLY***
sent packets: 998
received packets: 990
drops: 8
***Timestamps for packets: SOLICIT-ADVERTISE***

sent / received: 0.100000 / 0.900000
***Timestamps for packets: REQUEST-REPLY***

sent / received: 1.000000 / 1.002000
sent / received: 1.100000 / 1.101000
sent / received: 1.200000 / 1.209000
"""


def test_what_perfdhcp_says_is_read() -> None:
    trial = parsed(SAID)
    assert trial == Trial(sent=1000, done=990, p50=2.0, p99=9.0)
    assert trial.lost == pytest.approx(0.01)
    with pytest.raises(RuntimeError, match="no address for interface"):
        parsed("ERROR: running perfdhcp: There is no address for interface: eth7")


@pytest.mark.parametrize("limit", [35.0, 700.0, 5_000.0, 33_000.0])
def test_the_highest_rate_is_found(limit: float) -> None:
    tried: list[float] = []

    def attempt(rate: float) -> Trial:
        tried.append(rate)
        return Trial(sent=1_000, done=1_000 if rate <= limit else 900, p50=1, p99=1)

    found = search(attempt, 2_000.0)
    assert limit / FINE < found <= limit
    assert sum(rate == found for rate in tried) >= CONFIRMED


def test_one_that_is_not_done_again_is_not_told_and_one_that_answers_nothing_has_none() -> None:
    rates: list[float] = []

    def once(rate: float) -> Trial:
        rates.append(rate)
        return Trial(sent=100, done=100 if rate <= 500 or rates.count(rate) == 1 else 50, p50=1, p99=1)

    assert search(once, 1_000.0) <= 500
    assert search(lambda _: Trial(sent=100, done=0, p50=0, p99=0), 1_000.0) == 0


def asked(data: bytes) -> Question:
    return question(decode(data).message, server=SERVER)


def test_a_client_of_dhcpv6_asks_and_knows_what_it_is_given() -> None:
    six = Six()
    solicit = asked(six.first(7, 0x0A0B0C, rapid=True))
    assert (solicit.kind, solicit.rapid_commit, solicit.transaction) == (Kind.SOLICIT, True, b"\x0a\x0b\x0c")
    assert not asked(six.first(7, 1, rapid=False)).rapid_commit
    assert asked(six.first(8, 1, rapid=False)).client != solicit.client
    lasting = Answer(addresses=(GivenAddresses(iaid=1, addresses=(IaAddress(address=GIVEN, preferred=5, valid=9),)),))
    reply = encode(answer(solicit, lasting, server=SERVER))
    assert six.is_given(reply)
    assert six.transaction(reply) == 0x0A0B0C
    for data, kind in ((six.request(7, 2, reply), Kind.REQUEST), (six.renewal(7, 2, reply), Kind.RENEW)):
        again = asked(data)
        assert (again.kind, again.client) == (kind, solicit.client)
        assert [each.addresses for each in again.addresses] == [(GIVEN,)]
    over = Answer(addresses=(GivenAddresses(iaid=1, addresses=(IaAddress(address=GIVEN),)),))
    assert not six.is_given(encode(answer(solicit, over, server=SERVER)))
    assert not six.is_given(encode(answer(asked(six.first(7, 1, rapid=False)), lasting, server=SERVER)))


def test_a_client_of_dhcpv4_asks_through_its_relay() -> None:
    four = Four("10.0.0.2")

    def heard(data: bytes) -> server4.Question:
        return server4.question(messages4.decode(data), server=HERE)

    discover = heard(four.first(7, 77, rapid=False))
    assert (discover.relay, discover.rapid_commit) == (RELAY, False)
    assert heard(four.first(7, 77, rapid=True)).rapid_commit
    told = server4.Told(address=LEASE, lease=100, t1=50, t2=80)
    offered = messages4.encode(server4.offer(discover, told, server=HERE))
    request = heard(four.request(7, 78, offered))
    assert (request.state, request.wanted, request.hardware) == (State.SELECTING, LEASE, discover.hardware)
    acknowledged = messages4.encode(server4.acknowledge(request, told, server=HERE))
    assert (four.is_given(acknowledged), four.is_given(offered)) == (True, False)
    assert four.transaction(acknowledged) == 78
    renewal = heard(four.renewal(7, 79, acknowledged))
    assert (renewal.state, renewal.wanted, renewal.client) == (State.RENEWING, LEASE, LEASE)
    assert renewal.client.removeprefix(MAPPED) == socket.inet_aton("10.1.2.3")


def of(server: str, rate: float, *, durable: bool) -> Measured:
    costs = {"cpu": 0.2, "p50": 1.0, "p99": 9.0, "memory": 300.0, "disk": 200.0, "recorded": 1.5, "busy": 2.5}
    return Measured(server=server, load="DHCPv6 four-way", durable=durable, rate=rate, **costs)


def test_what_was_found_is_shown_with_ratios_and_what_is_missing(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    measured = [
        of(DNMS.name, 4_000.0, durable=True),
        of("slow", 400.0, durable=True),
        of("fast", 8_000.0, durable=False),
    ]
    avalanches = [Avalanche("slow", 6, 61.25), Avalanche(DNMS.name, 6, 4.5), Avalanche(DNMS.name, 4, 5.5)]
    dhcp.show(Report(2, Found(measured, avalanches, ["other, load: it hangs"], ["dnsmasq-base"]), 60.0))
    shown = capsys.readouterr().out
    slow, fast = (next(line for line in shown.splitlines() if name in line) for name in ("slow", "fast"))
    assert "10.00 times" in slow
    assert "✗" not in slow
    assert "0.50 times ✗" in fast
    assert "apt-get install dnsmasq-base" in shown
    assert "not measured: other, load: it hangs" in shown
    assert "61.2" in shown
