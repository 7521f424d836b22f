"""NTP servers of an interface, for systemd-timesyncd and chrony, in the way of Debian's own DHCP hooks.

Each has a directory below /run for servers that were learnt, and adds what is there to its own. So nothing of others
is changed, and after a reboot nothing is left over.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import msgspec
import structlog

from dnms.disk import atomic
from dnms.events.ip import format_address
from dnms.linux import programs
from dnms.linux.errors import KernelError
from dnms.linux.namespaces import search_path
from dnms.linux.rivals import processes

log = structlog.get_logger(__name__)


class _Service(msgspec.Struct, frozen=True):
    name: str
    process: str  # as the kernel has it: 15 characters
    file: Path  # in which an interface's servers stand
    content: Callable[[Sequence[str]], str]
    reading: tuple[str, ...]  # what makes it read its files again
    is_installed: Callable[[], bool]


CHRONY_CONFIGURATIONS = (Path("/etc/chrony/chrony.conf"), Path("/etc/chrony.conf"))
SOURCES = Path("/run/chrony-dhcp")
BOOTED = Path("/run/systemd/system")
"""Is there where systemd is the init system, sd_booted(3)."""
TIMESYNCD_PROGRAMS = (Path("/usr/lib/systemd/systemd-timesyncd"), Path("/lib/systemd/systemd-timesyncd"))


def _reads_sources() -> bool:
    """Whether chrony is there, and its configuration names the directory, as Debian's and Fedora's do."""
    if shutil.which("chronyc", path=search_path()) is None:
        return False
    named = re.compile(rf"^\s*sourcedir\s+{SOURCES}/?\s*$", re.MULTILINE)
    for each in CHRONY_CONFIGURATIONS:
        with suppress(OSError):
            if named.search(each.read_text(errors="replace")):
                return True
    return False


def _is_timesyncd_there() -> bool:
    return BOOTED.is_dir() and any(each.exists() for each in TIMESYNCD_PROGRAMS)


def _services(interface: str) -> tuple[_Service, ...]:
    return (
        _Service(
            "systemd-timesyncd",
            "systemd-timesyn",
            Path(f"/run/systemd/timesyncd.conf.d/dnms-{interface}.conf"),
            lambda servers: f"[Time]\nNTP={' '.join(servers)}\n",
            ("systemctl", "try-restart", "systemd-timesyncd.service"),
            _is_timesyncd_there,
        ),
        _Service(
            "chrony",
            "chronyd",
            SOURCES / f"dnms-{interface}.sources",
            lambda servers: "".join(f"server {each} iburst\n" for each in servers),
            ("chronyc", "reload", "sources"),
            _reads_sources,
        ),
    )


async def write(interface: str, servers: Sequence[bytes]) -> bool:
    """Have these time servers, or none; false if there are some, and no service here that could use them.

    What fails is logged: a node with its addresses and without the time is better off than one without both.
    """
    texts = [format_address(each) for each in servers]
    services = [each for each in _services(interface) if (each.is_installed() if texts else _is_set(each))]
    used = not texts
    if not services and used:
        return True
    ours, running = _is_the_machines_network(), {name for name, _ in processes()}
    for each in services:
        if not ours and each.process not in running:
            continue
        try:
            if texts:
                used = True
                await _write(each, each.content(texts), reads=each.process in running)
            else:
                await _take_away(each, reads=each.process in running)
        except (OSError, KernelError) as error:
            log.warning("time servers not set", service=each.name, interface=interface, reason=str(error))
    if not used:
        log.warning("no service here uses time servers", servers=texts)
    return used


async def _write(service: _Service, content: str, *, reads: bool) -> None:
    file, unread = service.file, _unread(service)
    if file.exists() and file.read_text() == content and not unread.exists():
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    unread.touch()
    atomic.write(file, content.encode())
    await _read_again(service, reads=reads)


async def _take_away(service: _Service, *, reads: bool) -> None:
    _unread(service).touch()
    service.file.unlink(missing_ok=True)
    await _read_again(service, reads=reads)


async def _read_again(service: _Service, *, reads: bool) -> None:
    if reads:
        await programs.run(*service.reading, doing=f"have {service.name} read its time servers")
    _unread(service).unlink()


def _is_set(service: _Service) -> bool:
    return service.file.exists() or _unread(service).exists()


def _unread(service: _Service) -> Path:
    """Is there from before a change until the service knows of it, so that who is killed between does it again."""
    return service.file.with_suffix(".unread")


def _is_the_machines_network() -> bool:
    """Whether this is the network namespace in which the machine's services run. The time is the whole machine's, and
    not the business of a node that is simulated in a namespace of it.
    """
    try:
        return Path("/proc/1/ns/net").readlink() == Path("/proc/thread-self/ns/net").readlink()
    except OSError:
        return False
