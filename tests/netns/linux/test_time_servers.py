"""NTP servers for systemd-timesyncd and chrony, which really run: they use them, and forget them again."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from dnms.events.ip import parse_address
from dnms.linux import programs, time_servers
from dnms.linux.errors import KernelError
from dnms.linux.netlink import Netlink
from tests.netns import debian, services
from tests.netns.linux.conftest import Switch

TEXTS = ["2001:db8::123", "192.0.2.123"]
SERVERS = tuple(map(parse_address, TEXTS))
DROP_IN = Path("/run/systemd/timesyncd.conf.d/dnms-eth0.conf")
RUN = Path("/run")
SOURCES = Path("/run/chrony-dhcp/dnms-eth0.sources")


def names(folder: Path) -> list[str]:
    return sorted(each.name for each in folder.iterdir())


def pid_of_timesyncd() -> str:
    return services.TIMESYNCD_PID.read_text()


async def on_a_machine(switch: Switch, work: Callable[[], Awaitable[None]]) -> None:
    async def run(_: Netlink) -> None:
        await work()

    await switch.node("node").inside(run, own_mounts=True)


async def test_timesyncd_uses_them_and_forgets_them(switch: Switch, tmp_path: Path) -> None:
    async def work() -> None:
        with services.timesyncd(tmp_path / "packages"):
            assert await time_servers.write("eth0", SERVERS)
            services.until(lambda: services.timesyncds_servers() == TEXTS)
            pid = pid_of_timesyncd()
            assert await time_servers.write("eth0", SERVERS)
            assert pid_of_timesyncd() == pid  # it is so already
            assert await time_servers.write("eth1", SERVERS[:1])
            assert await time_servers.write("eth0", ())
            services.until(lambda: services.timesyncds_servers() == TEXTS[:1])  # the other interface's
            assert names(DROP_IN.parent) == ["dnms-eth1.conf"]

    await on_a_machine(switch, work)


async def test_chrony_uses_them_and_forgets_them(switch: Switch, tmp_path: Path) -> None:
    async def work() -> None:
        services.have_chrony(tmp_path / "packages")
        with services.chronyd():
            assert await time_servers.write("eth0", SERVERS)
            services.until(lambda: services.chronys_servers() == set(TEXTS))
            assert await time_servers.write("eth0", SERVERS[1:])
            services.until(lambda: services.chronys_servers() == set(TEXTS[1:]))
            assert await time_servers.write("eth0", ())
            services.until(lambda: services.chronys_servers() == set())
            assert names(SOURCES.parent) == []

    await on_a_machine(switch, work)


async def test_who_was_killed_before_the_service_knew_tells_it_then(
    switch: Switch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fails(*_: str, doing: str) -> None:
        raise KernelError("refused", doing)

    async def work() -> None:
        services.have_chrony(tmp_path / "packages")
        with services.chronyd():
            with monkeypatch.context() as patch:
                patch.setattr(programs, "run", fails)
                assert await time_servers.write("eth0", SERVERS)
                assert services.chronys_servers() == set()
            assert await time_servers.write("eth0", SERVERS)
            services.until(lambda: services.chronys_servers() == set(TEXTS))
            with monkeypatch.context() as patch:
                patch.setattr(programs, "run", fails)
                assert await time_servers.write("eth0", ())
            assert await time_servers.write("eth0", ())
            services.until(lambda: services.chronys_servers() == set())

    await on_a_machine(switch, work)


async def test_a_service_that_does_not_run_yet_finds_them_when_it_starts(
    switch: Switch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def work() -> None:
        services.have_chrony(tmp_path / "packages")
        assert not await time_servers.write("eth0", SERVERS)  # this is a namespace, and not the machine
        assert names(RUN) == []
        monkeypatch.setattr(time_servers, "_is_the_machines_network", lambda: True)
        assert await time_servers.write("eth0", SERVERS)
        with services.chronyd():
            services.until(lambda: services.chronys_servers() == set(TEXTS))

    await on_a_machine(switch, work)


async def test_where_nothing_uses_them_nothing_is_left(
    switch: Switch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def work() -> None:
        monkeypatch.setattr(time_servers, "_is_the_machines_network", lambda: True)
        debian.use(tmp_path / "packages", "chrony")
        services.CHRONY_CONF.write_text("#sourcedir /run/chrony-dhcp\nsourcedir /etc/chrony/sources.d\n")
        assert not await time_servers.write("eth0", SERVERS)
        assert await time_servers.write("eth0", ())
        assert names(RUN) == []

    await on_a_machine(switch, work)
