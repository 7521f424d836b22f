"""What DHCPv4 clients are told beside addresses: that IPv6 alone will do, what to boot, other options of the plan."""

from __future__ import annotations

import pytest

from dnms.agents.subnet.dhcp4_server import Dhcp4Server
from dnms.events.address import AddressAllocated
from dnms.events.ip import parse_address
from dnms.wire.dhcp4.codes import Kind
from dnms.wire.dhcp4.messages import NOBODY
from tests.unit.agents.conftest import FrailLog, Site
from tests.unit.agents.dhcp4_line import SERVED, Client, books, client, of, server, wire
from tests.virtual_time import pass_time

__all__ = ["books", "client", "server", "wire"]

TFTP = parse_address("192.0.2.9")
TOLD = """
[subnet.dhcp]
ipv6_only = 1800
[[subnet.dhcp.boot]]
architectures = [16]
file = "http://boot.example/x64.efi"
[[subnet.dhcp.boot]]
architectures = [7, 9]
server = "192.0.2.9"
file = "x64.efi"
[[subnet.dhcp.boot]]
file = "LONG"
[[subnet.dhcp.option]]
family = 4
code = 43
hex = "0104C0000209"
[[subnet.dhcp.option]]
family = 6
code = 43
text = "of the other one"
[[subnet.group]]
name = "voip"
dhcp = { ipv6_only = 0, boot = [], option = [] }
""".replace("LONG", "l" * 128)
PLAN = SERVED.replace("[[pool]]", f"{TOLD}[[pool]]", 1)


@pytest.fixture
async def told(site: Site, server: Dhcp4Server) -> Dhcp4Server:
    await site.apply(PLAN)
    await pass_time(1)
    return server


@pytest.mark.usefixtures("told")
async def test_who_can_do_without_ipv4_is_told_that_it_may(log: FrailLog, client: Client) -> None:
    """And is given nothing before it asks for it: it may have wanted to know that alone (RFC 8925, 3.3)."""
    offered = await client.ask(Kind.DISCOVER, requested=(1, 108), rapid_commit=True)
    assert offered is not None
    assert (offered.kind, offered.options.ipv6_only) == (Kind.OFFER, 1_800)
    assert offered.yours != NOBODY
    assert of(log, AddressAllocated) == []
    acknowledged = await client.select(offered.yours, requested=(1, 108))
    assert acknowledged is not None
    assert (acknowledged.kind, acknowledged.options.ipv6_only) == (Kind.ACK, 1_800)
    for requested in ((1, 3), ()):
        answer = await client.ask(Kind.DISCOVER, requested=requested, rapid_commit=True)
        assert answer is not None
        assert (answer.kind, answer.options.ipv6_only) == (Kind.ACK, None)


@pytest.mark.usefixtures("told")
async def test_a_group_may_need_ipv4_and_boot_nothing(client: Client) -> None:
    answer = await client.ask(Kind.DISCOVER, host_name="phone-1", requested=(43, 67, 108), architectures=(7,))
    assert answer is not None
    assert (answer.options.ipv6_only, answer.options.boot_file, answer.file) == (None, "", "")


@pytest.mark.usefixtures("told")
async def test_what_a_machine_boots_is_by_its_architecture(client: Client) -> None:
    answer = await client.ask(
        Kind.DISCOVER, requested=(43, 66, 67), architectures=(0, 9), vendor_class=b"PXEClient:Arch"
    )
    assert answer is not None
    assert (answer.server, answer.file) == (TFTP, "x64.efi")
    options = answer.options
    assert (options.boot_server, options.boot_file, options.vendor_class) == ("192.0.2.9", "x64.efi", b"")
    plain = await client.ask(Kind.DISCOVER, requested=(3,), architectures=(7,))
    assert plain is not None
    assert (plain.server, plain.file) == (TFTP, "x64.efi")  # as BOOTP has it, whatever it requests
    assert (plain.options.boot_server, plain.options.boot_file) == ("", "")


@pytest.mark.usefixtures("told")
async def test_who_boots_by_http_hears_its_class_again(client: Client) -> None:
    answer = await client.ask(Kind.DISCOVER, architectures=(16,), vendor_class=b"HTTPClient:Arch:00016:UNDI:003001")
    assert answer is not None
    assert (answer.server, answer.file) == (NOBODY, "http://boot.example/x64.efi")
    assert answer.options.vendor_class == b"HTTPClient"


@pytest.mark.usefixtures("told")
async def test_a_name_that_is_too_long_for_its_field_stands_in_the_option_alone(client: Client) -> None:
    answer = await client.ask(Kind.DISCOVER, requested=(3,))
    assert answer is not None
    assert (answer.file, answer.options.boot_file) == ("", "l" * 128)


async def test_another_option_is_told_to_who_requests_it(
    client: Client, told: Dhcp4Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[bytes] = []

    def send(data: bytes, *_: object) -> bool:
        said.append(data)
        return True

    monkeypatch.setattr(client.wire, "send", send)
    for requested in ((43, 3), (3,)):
        await client.ask(Kind.DISCOVER, requested=requested)
    with_it, without = said
    assert bytes((43, 6)) + bytes.fromhex("0104c0000209") in with_it
    assert bytes.fromhex("0104c0000209") not in without
    assert b"of the other one" not in with_it
    assert told.answered == {"offer": 2}
