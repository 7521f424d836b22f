"""What a plan tells clients of DHCP beside addresses: written, read, refused, and narrowed down to a group."""

from __future__ import annotations

import pytest

from dnms.domain import rollouts
from dnms.domain.adopted import Adopted
from dnms.domain.aggregate import Refused
from dnms.domain.dhcp_table import SERVED, boot_of
from dnms.domain.document import DocumentError, from_builtins, from_toml, to_builtins
from dnms.domain.plan import PlanState
from dnms.events.ip import parse_address
from dnms.events.plan import AdoptedPlan, Boot, RawOption
from dnms.wire.dhcp4 import options as options4
from dnms.wire.dhcp6.codes import Option
from tests.unit.domain.conftest import PLAN

OFFICE = 'name = "office"\n'
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
url = "tftp://boot.example/x64.efi"
parameters = ["quiet"]
[[subnet.dhcp.boot]]
file = "pxelinux.0"
[[subnet.dhcp.option]]
family = 4
code = 43
hex = "0104C0000209"
[[subnet.dhcp.option]]
family = 4
code = 150
addresses = ["192.0.2.9", "192.0.2.10"]
[[subnet.dhcp.option]]
family = 6
code = 31
addresses = ["2001:db8::9"]
[[subnet.dhcp.option]]
family = 4
code = 114
text = "https://portal.example/"
"""
GROUP = '[[group]]\nname = "lab"\nnumber = 7\nnodes = ["lab-*"]\ndhcp = { ipv6_only = 0, boot = [] }\n'
SUBNET_GROUP = """
[[subnet.group]]
name = "lab"
dhcp = { option = [{ family = 4, code = 43, text = "lab" }] }
"""


def plan(*, office: str = TOLD, group: str = GROUP, in_office: str = SUBNET_GROUP) -> str:
    head, tail = PLAN.split("[[pool]]", 1)
    return f"{group}{head}{office}{in_office}[[pool]]{tail}"


def adopted(text: str) -> AdoptedPlan:
    state = PlanState()
    for event in state.decide(from_toml(text), at=0, entropy=bytes(32)):
        state.evolve(event, at=0, position=1)
    return state.for_subnet("office")


def test_it_is_written_as_it_was_read() -> None:
    whole = from_toml(plan())
    dhcp = whole.subnets[0].downlink.dhcp
    assert dhcp.ipv6_only == 1800
    assert dhcp.boot is not None
    assert dhcp.boot[1] == Boot(
        architectures=(7, 9),
        server=parse_address("192.0.2.9"),
        file="x64.efi",
        url="tftp://boot.example/x64.efi",
        parameters=("quiet",),
    )
    assert dhcp.options == (
        RawOption(family=4, code=43, value=bytes.fromhex("0104c0000209")),
        RawOption(family=4, code=150, value=bytes.fromhex("c0000209c000020a")),
        RawOption(family=6, code=31, value=parse_address("2001:db8::9")),
        RawOption(family=4, code=114, value=b"https://portal.example/"),
    )
    assert from_builtins(to_builtins(whole)) == whole


def test_the_narrowest_wins_key_by_key() -> None:
    found = Adopted(adopted(plan()))
    everybody, lab = found.stateless(0).dhcp, found.stateless(7).dhcp
    assert (everybody.ipv6_only, lab.ipv6_only) == (1800, 0)
    assert (len(everybody.boot or ()), lab.boot) == (3, ())
    assert lab.options == (RawOption(family=4, code=43, value=b"lab"),)


@pytest.mark.parametrize(
    ("kind", "architectures", "file"),
    [
        (4, (16,), "http://boot.example/x64.efi"),
        (4, (0, 9), "x64.efi"),
        (4, (0,), "pxelinux.0"),
        (4, (), "pxelinux.0"),
        (6, (7,), "x64.efi"),
        (6, (0,), None),
        (6, (), None),
    ],
)
def test_what_is_booted_is_by_the_architecture(kind: int, architectures: tuple[int, ...], file: str | None) -> None:
    found = boot_of(Adopted(adopted(plan())).stateless(0).dhcp, 4 if kind == 4 else 6, architectures)
    assert (None if found is None else found.file) == file


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("ipv6_only = 299", "$.subnet[0].dhcp.ipv6_only: expected 0 (not told) or at least 300"),
        ("ipv6_only = -1", "$.subnet[0].dhcp.ipv6_only"),
        ("[[subnet.dhcp.boot]]", "$.subnet[0].dhcp.boot[0]: expected a `file`"),
        ('[[subnet.dhcp.boot]]\nserver = "2001:db8::1"', "$.subnet[0].dhcp.boot[0].server: expected an IPv4"),
        (
            '[[subnet.dhcp.boot]]\nfile = "a b"',
            "Expected printable ASCII without blanks - at `$.subnet[0].dhcp.boot[0].file`",
        ),
        (f'[[subnet.dhcp.boot]]\nfile = "{"x" * 256}"', "$.subnet[0].dhcp.boot[0].file"),
        ('[[subnet.dhcp.boot]]\nname = "x"', "known are architectures, server, file, url, parameters"),
        ("[[subnet.dhcp.boot]]\nfile = 'x'\n" * 17, "$.subnet[0].dhcp.boot"),
        ('[[subnet.dhcp.option]]\nfamily = 4\ncode = 43\nhex = "0"', "Expected bytes in hex, such as 0a0b0c"),
        ("[[subnet.dhcp.option]]\nfamily = 4\ncode = 43", "expected one of hex, text, addresses; found none"),
        ('[[subnet.dhcp.option]]\nfamily = 4\ncode = 43\nhex = ""\ntext = ""', "found hex and text"),
        ('[[subnet.dhcp.option]]\nfamily = 4\ncode = 43\naddresses = ["::1"]', "expected IPv4 addresses"),
        ('[[subnet.dhcp.option]]\nfamily = 4\ncode = 6\ntext = "x"', "6 is said by DNMS itself"),
        ('[[subnet.dhcp.option]]\nfamily = 6\ncode = 23\ntext = "x"', "23 is said by DNMS itself"),
        ('[[subnet.dhcp.option]]\nfamily = 4\ncode = 300\ntext = "x"', "expected 1 to 254"),
        (f'[[subnet.dhcp.option]]\nfamily = 4\ncode = 43\ntext = "{"x" * 256}"', "256 bytes; expected at most 255"),
        ('[[subnet.dhcp.option]]\nfamily = 4\ncode = 43\ntext = "x"\n' * 2, "43 stands here twice"),
        ("lease = 5", "known are ipv6_only, boot, option"),
    ],
)
def test_what_is_wrong_says_where_and_what_would_be_right(text: str, said: str) -> None:
    with pytest.raises((DocumentError, Refused)) as error:
        PlanState().decide(from_toml(plan(office=f"[subnet.dhcp]\n{text}\n")), at=0, entropy=bytes(32))
    assert said in str(error.value)


def test_every_option_that_a_server_says_is_one_that_a_plan_cannot() -> None:
    assert {*options4._ALWAYS, *options4._OTHERS} <= SERVED[4]
    asks_when = {Option.INFORMATION_REFRESH_TIME, Option.SOL_MAX_RT, Option.INF_MAX_RT}
    assert set(Option) - asks_when <= SERVED[6]


def test_no_node_with_an_agent_waits_for_its_turn_because_of_it() -> None:
    before, after = (
        adopted(plan()),
        adopted(plan(office=TOLD.replace("1800", "3600"), group=GROUP.replace("0,", "900,"))),
    )
    assert before.stateless != after.stateless
    assert rollouts._what(before) == rollouts._what(after)
    assert rollouts._what(before) != rollouts._what(adopted(plan(office="mtu = 1400\n" + TOLD)))
