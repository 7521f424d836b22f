"""What the servers of others write of a client is read as who that client is to DNMS."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from dnms.domain.identity import duid_of_hardware
from dnms.events.ip import format_address
from dnms.migration import dnsmasq, dnsmasq_leases, isc, isc_leases
from dnms.migration.model import Configuration, Lease
from dnms.migration.plan import document
from tests.netns import debian
from tests.netns.migration.machine import LINK, Machine, addresses_of, until
from tests.netns.migration.test_from_kea import DHCPCD
from tests.netns.programs import dhcpcd

ISC4 = """
default-lease-time 600; authoritative;
subnet 192.0.2.0 netmask 255.255.255.0 { interface net; range 192.0.2.128 192.0.2.191; }
"""
ISC6 = """
default-lease-time 600; preferred-lifetime 300;
subnet6 2001:db8:5::/64 { interface net; range6 2001:db8:5::100 2001:db8:5::1ff;
  prefix6 2001:db8:8:: 2001:db8:8:ff00:: /56; }
"""
DNSMASQ = """
interface=net
bind-interfaces
port=0
dhcp-range=192.0.2.128,192.0.2.191,255.255.255.0,10m
dhcp-range=2001:db8:5::100,2001:db8:5::1ff,64,10m
"""


def no_file(name: str) -> str:
    raise FileNotFoundError(name)


@contextmanager
def by_isc(machine: Machine) -> Iterator[tuple[Configuration, list[Path]]]:
    program = debian.program("isc-dhcp-server", "dhcpd")
    texts, files = {4: ISC4, 6: ISC6}, {kind: machine.path / f"dhcpd{kind}.leases" for kind in (4, 6)}
    words: dict[int, list[str | Path]] = {}
    for kind, text in texts.items():
        (machine.path / f"dhcpd{kind}.conf").write_text(text)
        files[kind].touch()
        names: list[str | Path] = [
            "-cf",
            machine.path / f"dhcpd{kind}.conf",
            "-lf",
            files[kind],
            "-pf",
            machine.path / f"dhcpd{kind}.pid",
        ]
        words[kind] = [program, f"-{kind}", "-f", "-d", "-user", "root", "-group", "root", *names, LINK]
    with (
        machine.running(*words[4], says="Server starting", log="dhcpd4.log"),
        machine.running(*words[6], says="Server starting", log="dhcpd6.log"),
    ):
        yield isc.configuration([(str(kind), text) for kind, text in texts.items()], no_file), list(files.values())


@contextmanager
def by_dnsmasq(machine: Machine) -> Iterator[tuple[Configuration, list[Path]]]:
    program = debian.program("dnsmasq-base", "dnsmasq")
    file, leases = machine.path / "dnsmasq.conf", machine.path / "dnsmasq.leases"
    file.write_text(DNSMASQ)
    words = ("-k", "--log-facility=-", "--user=root", "-C", file, f"--dhcp-leasefile={leases}")
    with machine.running(program, *words, "--pid-file", says="DHCP, IP range", log="dnsmasq.log"):
        yield dnsmasq.configuration([("dnsmasq.conf", DNSMASQ)], no_file), [leases]


SERVERS = {"isc-dhcpd": (by_isc, isc_leases.leases), "dnsmasq": (by_dnsmasq, dnsmasq_leases.leases)}


@pytest.mark.parametrize("name", SERVERS)
def test_who_has_what(machine: Machine, tmp_path: Path, name: str) -> None:
    client = machine.client("client")
    root = tmp_path / "client"
    (root / "etc").mkdir(parents=True)
    (root / "etc" / "dhcpcd.conf").write_text(DHCPCD)
    serve, read = SERVERS[name]
    with serve(machine) as (configuration, files), dhcpcd(client, root, "eth0"):
        until(lambda: len(addresses_of(client)) == 2)
        has = set(addresses_of(client))

        def written() -> dict[str, Lease]:
            found, _ = read([(str(file), file.read_text()) for file in files], now=0)
            return {format_address(each.address): each for each in found if isinstance(each.address, bytes)}

        until(lambda: written().keys() == has)
    (link,) = json.loads(client.run("ip", "-j", "link", "show", "dev", "eth0"))
    hardware = bytes.fromhex(link["address"].replace(":", ""))
    assert {each.duid for each in written().values()} == {duid_of_hardware(hardware)}
    (six,) = [each for address, each in written().items() if ":" in address]
    (four,) = [each for address, each in written().items() if ":" not in address]
    assert six.iaid == 1  # as dhcpcd is told
    assert four.hardware == hardware
    made = document(configuration, "home")
    assert [sorted(each["prefixes"]) for each in made["subnet"]] == [["192.0.2.0/24", "2001:db8:5::/64"]]
    assert len(made["pool"]) == 2
