"""DNS servers in systemd-resolved, Debian's resolvconf and openresolv: set, read, found changed, and given back."""

from __future__ import annotations

import signal
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from dnms.events.configuration import Resolver
from dnms.events.ip import parse_address
from dnms.linux import before, name_servers, resolved
from dnms.linux.errors import KernelError
from dnms.linux.name_servers import NameServers
from dnms.linux.namespaces import bind_mount
from dnms.linux.netlink import Netlink
from dnms.linux.resolvconf import Resolvconf
from dnms.linux.resolved import Resolved
from dnms.linux.resolver import ResolverFile
from tests.netns import debian, services
from tests.netns.linux.conftest import Switch
from tests.netns.services import ETC, resolvconf, resolvectl

PROGRAM = Path("/usr/sbin/resolvconf")
RESOLV_CONF = ETC / "resolv.conf"
WANTED = Resolver(servers=(parse_address("2001:db8::53"), parse_address("192.0.2.53")), search=("lab", "example.net"))
OTHER = Resolver(servers=(parse_address("192.0.2.99"),))


def break_program() -> None:
    PROGRAM.write_text("#!/bin/sh\necho out of order >&2\nexit 1\n")


class Place:
    """What a test has of the machine."""

    def __init__(self, netlink: Netlink, folder: Path) -> None:
        self.netlink = netlink
        self.folder = folder / "packages"
        self.state = folder / "state"
        self.index = 0

    async def way(self) -> NameServers:
        self.index = (await self.netlink.link("eth0")).index
        return await name_servers.in_use("eth0", self.index, state=self.state, resolv_conf=RESOLV_CONF)

    async def roll_back(self, to: Resolver) -> None:
        await name_servers.roll_back(to, "eth0", self.index, state=self.state, resolv_conf=RESOLV_CONF)

    async def give_back(self) -> None:
        await name_servers.give_back("eth0", self.index, state=self.state, resolv_conf=RESOLV_CONF)

    def fingerprint(self) -> object:
        return name_servers.fingerprint(RESOLV_CONF)


async def on_a_machine(switch: Switch, folder: Path, work: Callable[[Place], Awaitable[None]]) -> None:
    node = switch.node("node")
    node.ip("address add 192.0.2.5/24 dev eth0")
    await node.inside(lambda netlink: work(Place(netlink, folder)), own_mounts=True)


# --- systemd-resolved


async def test_resolved_is_told_of_one_interface_and_forgets_it_again(switch: Switch, tmp_path: Path) -> None:
    async def work(place: Place) -> None:
        with services.systemd_resolved(place.folder):
            way = await place.way()
            assert isinstance(way, Resolved)
            assert await way.read() == Resolver()
            was = place.fingerprint()
            assert await way.write(WANTED)
            assert place.fingerprint() != was
            assert await way.read() == WANTED
            assert not await way.write(WANTED)  # it is so already
            assert resolvectl("default-route", "eth0").split()[-1] == "yes"
            assert "2001:db8::53 192.0.2.53" in resolvectl("dns", "eth0")
            assert RESOLV_CONF.readlink() == Path("../run/systemd/resolve/stub-resolv.conf")
            assert await way.write(OTHER)
            assert await way.read() == OTHER
            await place.give_back()
            assert await way.read() == Resolver()
            assert "192.0.2.99" not in resolvectl("dns")

    await on_a_machine(switch, tmp_path, work)


async def test_what_somebody_had_told_resolved_comes_back(switch: Switch, tmp_path: Path) -> None:
    async def work(place: Place) -> None:
        with services.systemd_resolved(place.folder):
            resolvectl("dns", "eth0", "192.0.2.1#dns.example", "2001:db8::1")
            resolvectl("domain", "eth0", "corp", "~internal")
            resolvectl("default-route", "eth0", "false")
            said = [resolvectl(word, "eth0") for word in ("dns", "domain", "default-route")]
            way = await place.way()
            was = await way.read()
            assert was.search == ("corp",)
            assert await way.write(WANTED)
            assert [resolvectl(word, "eth0") for word in ("dns", "domain", "default-route")] != said
            await place.roll_back(was)
            assert [resolvectl(word, "eth0") for word in ("dns", "domain", "default-route")] == said
            assert await way.write(WANTED)
            assert await way.write(OTHER)
            await place.roll_back(WANTED)  # not the oldest: what was proven last
            assert await way.read() == WANTED
            await place.give_back()
            assert [resolvectl(word, "eth0") for word in ("dns", "domain", "default-route")] == said

    await on_a_machine(switch, tmp_path, work)


async def test_an_interface_without_servers_of_its_own_has_those_of_all(switch: Switch, tmp_path: Path) -> None:
    async def work(place: Place) -> None:
        debian.use(place.folder, "systemd-resolved")
        (ETC / "systemd/resolved.conf").write_text("[Resolve]\nDNS=192.0.2.7\nDomains=everywhere\n")
        services.link("/run/systemd/resolve/resolv.conf")
        with services.system_bus(), services.resolved_process():
            way = await place.way()
            assert await way.read() == Resolver(servers=(parse_address("192.0.2.7"),), search=("everywhere",))
            assert await way.write(WANTED)
            assert await way.read() == WANTED
            await place.give_back()
            assert resolvectl("dns", "eth0").split()[-1] == "(eth0):"

    await on_a_machine(switch, tmp_path, work)


async def test_resolved_keeps_it_over_its_own_restart_and_the_state_comes_first(switch: Switch, tmp_path: Path) -> None:
    async def work(place: Place) -> None:
        debian.use(place.folder, "systemd-resolved")
        services.link("/run/systemd/resolve/stub-resolv.conf")
        with services.system_bus():
            with services.resolved_process():
                way = await place.way()
                place.state.write_text("no directory")
                with pytest.raises(KernelError):
                    await way.write(WANTED)
                assert await way.read() == Resolver()  # what could not be kept is not changed
                place.state.unlink()
                assert await way.write(WANTED)
                assert before.load(place.state, "eth0").resolvers["systemd-resolved"].said == Resolver()
            assert isinstance(await place.way(), ResolverFile)  # it is not there, and nobody starts it
            await place.give_back()  # is no failure
            with services.resolved_process():
                assert await (await place.way()).read() == WANTED

    await on_a_machine(switch, tmp_path, work)


async def test_resolved_of_another_network_namespace_is_not_told(switch: Switch, tmp_path: Path) -> None:
    other = switch.node("other").namespace

    async def work(place: Place) -> None:
        debian.use(place.folder, "systemd-resolved")
        services.link("/run/systemd/resolve/stub-resolv.conf")
        with services.system_bus():
            with other.entered():
                process = services.resolved_process()
                process.__enter__()
            try:
                assert isinstance(await place.way(), ResolverFile)
            finally:
                process.__exit__(None, None, None)

    await on_a_machine(switch, tmp_path, work)


async def test_a_resolved_that_does_not_answer_is_waited_for_and_keeps_its_link(
    switch: Switch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def work(place: Place) -> None:
        with services.systemd_resolved(place.folder) as process:
            way = await place.way()
            monkeypatch.setattr(resolved, "TIMEOUT", 0.2)
            process.send_signal(signal.SIGSTOP)
            try:
                for asked in (way.read, place.way):
                    with pytest.raises(KernelError, match="timeout"):
                        await asked()
            finally:
                process.send_signal(signal.SIGCONT)
                monkeypatch.undo()
            with pytest.raises(KernelError, match="refused"):
                await Resolved("eth0", 4711, place.state).write(WANTED)

    await on_a_machine(switch, tmp_path, work)


async def test_a_file_that_is_mounted_there_is_written_whatever_the_machine_uses(
    switch: Switch, tmp_path: Path
) -> None:
    own = tmp_path / "own"
    own.touch()

    async def work(place: Place) -> None:
        with services.systemd_resolved(place.folder):
            bind_mount(own, RESOLV_CONF)
            assert isinstance(await place.way(), ResolverFile)

    await on_a_machine(switch, tmp_path, work)


# --- resolvconf


RESOLVCONFS: dict[str, Callable[[Path], None]] = {
    "resolvconf": services.debians_resolvconf,
    "openresolv": services.openresolv,
}


@pytest.mark.parametrize("name", RESOLVCONFS)
async def test_resolvconf_has_a_record_of_ours_beside_those_of_others(
    switch: Switch, tmp_path: Path, name: str
) -> None:
    async def work(place: Place) -> None:
        RESOLVCONFS[name](place.folder)
        resolvconf("-a", "eth9.dhcp", stdin="search others\nnameserver 192.0.2.66\n")
        text = RESOLV_CONF.read_text()
        way = await place.way()
        assert isinstance(way, Resolvconf)
        was = await way.read()
        assert was == Resolver(servers=(parse_address("192.0.2.66"),), search=("others",))
        assert await way.write(WANTED)
        assert await way.read() == WANTED
        assert not await way.write(WANTED)
        for said in ("2001:db8::53", "192.0.2.53", "192.0.2.66", "example.net", "others"):
            assert said in RESOLV_CONF.read_text()
        assert isinstance(await place.way(), Resolvconf)
        seen = place.fingerprint()
        resolvconf("-d", "eth0.dnms")  # by somebody else
        assert place.fingerprint() != seen
        assert await way.read() == was
        assert await way.write(WANTED)
        assert await way.write(OTHER)
        await place.roll_back(WANTED)
        assert await way.read() == WANTED
        await place.roll_back(was)
        assert RESOLV_CONF.read_text() == text
        assert await way.write(WANTED)
        await place.give_back()
        assert RESOLV_CONF.read_text() == text
        await place.give_back()

    await on_a_machine(switch, tmp_path, work)


@pytest.mark.parametrize("name", RESOLVCONFS)
async def test_resolvconf_that_cannot_is_one_clear_line(switch: Switch, tmp_path: Path, name: str) -> None:
    async def work(place: Place) -> None:
        RESOLVCONFS[name](place.folder)
        way = await place.way()
        with pytest.raises(ValueError, match="no search domain"):
            await way.write(Resolver(search=("a\nnameserver 192.0.2.66",)))
        break_program()
        with pytest.raises(KernelError, match="resolvconf says: out of order"):
            await way.write(WANTED)

    await on_a_machine(switch, tmp_path, work)


async def test_another_nodes_record_is_not_given_back(switch: Switch, tmp_path: Path) -> None:
    async def work(place: Place) -> None:
        services.debians_resolvconf(place.folder)
        await (await place.way()).write(WANTED)
        place.state = tmp_path / "other"
        await place.give_back()
        assert "2001:db8::53" in RESOLV_CONF.read_text()

    await on_a_machine(switch, tmp_path, work)


# --- neither


@contextmanager
def by_hand(folder: Path) -> Iterator[None]:
    debian.use(folder, "systemd-resolved")
    RESOLV_CONF.write_text("nameserver 192.0.2.1\n")
    with services.system_bus(), services.resolved_process():
        yield


@contextmanager
def no_program(folder: Path) -> Iterator[None]:
    debian.use(folder, "chrony")
    services.link("/run/resolvconf/resolv.conf")
    Path("/run/resolvconf").mkdir()
    yield


@contextmanager
def resolveds_own(folder: Path) -> Iterator[None]:
    """It brings a `resolvconf` that is its own, and cannot do what we ask of one."""
    debian.use(folder, "systemd-resolved")
    RESOLV_CONF.write_text("# Generated by resolvconf\nnameserver 192.0.2.1\n")
    yield


@pytest.mark.parametrize("machine", [by_hand, no_program, resolveds_own])
async def test_else_it_is_the_file(
    switch: Switch, tmp_path: Path, machine: Callable[[Path], AbstractContextManager[None]]
) -> None:
    async def work(place: Place) -> None:
        with machine(place.folder):
            assert isinstance(await place.way(), ResolverFile)

    await on_a_machine(switch, tmp_path, work)
