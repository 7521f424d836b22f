"""resolv.conf as a file, a link to another program's file and a mount; settings and their way back."""

from __future__ import annotations

from pathlib import Path

import pytest

from dnms.domain.node_settings import settings_of
from dnms.events.configuration import Resolver
from dnms.events.ip import parse_address
from dnms.linux import resolver, sysctl
from dnms.linux.errors import KernelError
from dnms.linux.namespaces import bind_mount
from dnms.linux.netlink import Netlink
from tests.netns.linux.conftest import Switch

WANTED = Resolver(servers=(parse_address("2001:db8::53"), parse_address("192.0.2.53")), search=("lab", "example.net"))
BEFORE = "# by hand\nnameserver 192.0.2.1\noptions edns0 trust-ad\nsearch a b\n"


def test_a_file_is_written_kept_once_and_given_back(tmp_path: Path) -> None:
    path, state = tmp_path / "resolv.conf", tmp_path / "state"
    path.write_text(BEFORE)
    path.chmod(0o640)
    assert resolver.read(path) == Resolver(servers=(parse_address("192.0.2.1"),), search=("a", "b"))
    assert resolver.write(path, WANTED, state=state)
    assert resolver.read(path) == WANTED
    assert "options edns0 trust-ad" in path.read_text()
    assert path.stat().st_mode & 0o777 == 0o640
    assert not resolver.write(path, WANTED, state=state)  # it says so already
    assert resolver.write(path, Resolver(servers=WANTED.servers[:1]), state=state)
    assert resolver.restore(path, state=state)
    assert path.read_text() == BEFORE
    assert not resolver.restore(path, state=state)
    assert sorted(each.name for each in tmp_path.iterdir()) == ["resolv.conf", "state"]


def test_a_link_to_another_programs_file_comes_back_and_that_file_is_not_touched(tmp_path: Path) -> None:
    path, other = tmp_path / "resolv.conf", tmp_path / "stub.conf"
    other.write_text(BEFORE)
    path.symlink_to("stub.conf")
    assert resolver.write(path, WANTED, state=tmp_path / "state")
    assert other.read_text() == BEFORE
    assert resolver.read(path) == WANTED
    assert resolver.restore(path, state=tmp_path / "state")
    assert path.readlink() == Path("stub.conf")


def test_none_before_is_none_after(tmp_path: Path) -> None:
    path = tmp_path / "resolv.conf"
    assert resolver.read(path) == Resolver()
    assert resolver.write(path, WANTED, state=tmp_path / "state")
    assert resolver.restore(path, state=tmp_path / "state")
    assert not path.exists()


@pytest.mark.parametrize("domain", ["", "a b", "a\nnameserver 192.0.2.66", "a\0"])
def test_a_domain_that_would_break_the_file_is_refused(tmp_path: Path, domain: str) -> None:
    path = tmp_path / "resolv.conf"
    with pytest.raises(ValueError, match="no search domain"):
        resolver.write(path, Resolver(search=(domain,)), state=tmp_path)
    assert not path.exists()


def test_a_place_that_cannot_be_written_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(KernelError, match=r"cannot write .*resolv.conf: "):
        resolver.write(tmp_path / "nowhere" / "resolv.conf", WANTED, state=tmp_path / "state")


async def test_a_mounted_file_is_written_in_place(switch: Switch, tmp_path: Path) -> None:
    source, path = tmp_path / "source", tmp_path / "resolv.conf"
    source.write_text(BEFORE * 3)
    path.write_text("the one below\n")

    async def work(_: Netlink) -> None:
        bind_mount(source, path)
        other = tmp_path / "other"
        other.touch()
        with pytest.raises(OSError, match="busy"):
            other.rename(path)
        other.unlink()
        with path.open() as reader:  # as a program that has it open
            assert resolver.write(path, WANTED, state=tmp_path / "state")
            assert "2001:db8::53" in reader.read()
        assert resolver.read(path) == WANTED
        assert resolver.restore(path, state=tmp_path / "state")
        assert path.read_text() == BEFORE * 3

    await switch.node("node", up=False).inside(work, own_mounts=True)
    assert source.read_text() == BEFORE * 3
    assert path.read_text() == "the one below\n"
    assert not (tmp_path / ".resolv.conf.dnms").exists()


async def test_settings_are_taken_over_in_this_namespace_and_restored(switch: Switch) -> None:
    node, other = switch.node("node", up=False), switch.node("other", up=False)
    settings = {"use_tempaddr": 2, "autoconf": 0, "router_solicitation_delay": 1}
    node.namespace.set_sysctls({f"ipv6.conf.eth0.{name}": value for name, value in settings.items()})

    async def work(_: Netlink) -> None:
        wanted = settings_of("eth0", {6})
        names = list(wanted)
        before = {name: sysctl.read(name) for name in names}
        changed = sysctl.change(wanted)
        assert {name.rpartition("/")[2] for name in changed} == {
            "use_tempaddr",
            "accept_ra",
            "keep_addr_on_down",
            "router_solicitation_delay",
        }
        assert {name: sysctl.read(name) for name in names} == wanted
        assert sysctl.change(wanted) == {}
        sysctl.restore(changed)
        assert {name: sysctl.read(name) for name in names} == before
        sysctl.restore({"net/ipv6/conf/gone0/accept_ra": "1"})
        with pytest.raises(KernelError, match="not-there"):
            sysctl.read("net/ipv6/conf/gone0/accept_ra")
        with pytest.raises(KernelError, match="invalid"):
            sysctl.write("net/ipv6/conf/eth0/addr_gen_mode", "99")

    await node.inside(work)

    async def untouched(_: Netlink) -> None:
        assert sysctl.read("net/ipv6/conf/eth0/accept_ra") == "1"

    await other.inside(untouched)
