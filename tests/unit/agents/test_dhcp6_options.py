"""What DHCPv6 clients are told beside addresses: what to boot, and other options of the plan."""

from __future__ import annotations

from typing import Any

import pytest

from dnms.agents.subnet.dhcp6_server import Dhcp6Server
from dnms.wire.dhcp6.codes import Kind
from tests.unit.agents.conftest import Site
from tests.unit.agents.dhcp6_wire import SERVED, Wire, alarms, books, server, wire
from tests.unit.agents.test_dhcp6_addresses import ask
from tests.virtual_time import pass_time

__all__ = ["alarms", "books", "server", "wire"]

TOLD = """
[[subnet.dhcp.boot]]
architectures = [7, 9]
url = "tftp://boot.example/x64.efi"
parameters = ["root=/dev/nfs", "quiet"]
[[subnet.dhcp.boot]]
architectures = [16]
url = "http://boot.example/x64.efi"
[[subnet.dhcp.option]]
family = 6
code = 31
addresses = ["2001:db8::123"]
"""
PLAN = SERVED.replace("[[pool]]", f"{TOLD}[[pool]]", 1)
HTTP = bytes.fromhex("00000157000a") + b"HTTPClient"


@pytest.fixture
async def told(site: Site, server: Dhcp6Server) -> Dhcp6Server:
    await site.apply(PLAN)
    await pass_time(1)
    return server


@pytest.mark.usefixtures("told")
@pytest.mark.parametrize("kind", [Kind.SOLICIT, Kind.REQUEST, Kind.INFORMATION_REQUEST])
async def test_what_a_machine_boots_is_by_its_architecture(wire: Wire, kind: Kind) -> None:
    said: dict[str, Any] = {"requested": (59, 60), "architectures": (9,)}
    if kind is Kind.INFORMATION_REQUEST:
        said["na"] = ()
    answer = await ask(wire, kind, **said)
    assert answer is not None
    assert answer.options.boot_file == "tftp://boot.example/x64.efi"
    assert answer.options.boot_parameters == ("root=/dev/nfs", "quiet")
    assert answer.options.vendor_class == b""
    for other in ({"requested": (60,)}, {"architectures": (0,)}, {"architectures": ()}):
        answer = await ask(wire, kind, **(said | other))
        assert answer is not None
        assert (answer.options.boot_file, answer.options.boot_parameters) == ("", ())


@pytest.mark.usefixtures("told")
async def test_who_boots_by_http_hears_its_class_again(wire: Wire) -> None:
    said = HTTP[:4] + (0x21).to_bytes(2) + b"HTTPClient:Arch:00016:UNDI:003001"
    answer = await ask(wire, Kind.SOLICIT, requested=(59,), architectures=(16,), vendor_class=said)
    assert answer is not None
    assert answer.options.boot_file == "http://boot.example/x64.efi"
    assert answer.options.vendor_class == HTTP


@pytest.mark.usefixtures("told")
async def test_another_option_is_told_to_who_requests_it(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[bytes] = []

    def send(data: bytes, _: object) -> bool:
        said.append(data)
        return True

    monkeypatch.setattr(wire, "send", send)
    for requested in ((31,), (23,)):
        await ask(wire, Kind.SOLICIT, requested=requested)
    with_it, without = said
    option = bytes.fromhex("001f001020010db8000000000000000000000123")
    assert option in with_it
    assert option not in without
