"""Has other programs leave an interface alone, by the drop-ins that they document for it, and takes those away again.

What was in the place of a drop-in is kept before it is written, and `undo` puts it back. Of dhcpcd, which has one file
for everything, a marked block is ours and the rest somebody else's; the block stands first, since behind an `interface`
line it would be of that interface alone (dhcpcd.conf(5)). Then the program is told: NetworkManager reads its
configuration at a SIGHUP, systemd-networkd when `networkctl` says so, and dhcpcd only when it is restarted, for which
it needs a service manager.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
from contextlib import suppress
from pathlib import Path

import msgspec
import structlog

from dnms.disk import atomic
from dnms.linux.errors import KernelError
from dnms.linux.namespaces import search_path
from dnms.linux.rivals import Rival, processes

KEPT = "rivals.{}.json"
WITHIN = 30.0  # seconds for another program to do what it is told

HEADER = "# Written by DNMS, which takes it away when it gives {} back.\n"
BLOCK = "# DNMS has {0}: begin\ndenyinterfaces {0}\n# DNMS has {0}: end\n"


class _Program(msgspec.Struct, frozen=True):
    command: str  # the short name of its process
    file: str  # below the root of the file system
    drop_in: str  # the whole file; empty: it is another's, and only a block is ours


_PROGRAMS = {
    "NetworkManager": _Program(
        "NetworkManager",
        "etc/NetworkManager/conf.d/90-dnms-{}.conf",
        HEADER + "[keyfile]\nunmanaged-devices+=interface-name:{}\n",
    ),
    # The first of all files that match the interface counts (systemd.network(5)).
    "systemd-networkd": _Program(
        "systemd-network",
        "etc/systemd/network/00-dnms-{}.network",
        HEADER + "[Match]\nName={}\n\n[Link]\nUnmanaged=yes\n",
    ),
    "dhcpcd": _Program("dhcpcd", "etc/dhcpcd.conf", ""),
}

log = structlog.get_logger(__name__)


def leave_alone(rival: Rival, interface: str, *, state: Path, root: Path = Path("/")) -> bool:
    """Write this program's drop-in and tell it; false where that was done before, or only a person can do it.

    `state` keeps what was there before, `root` is the root of the file system. KernelError if a file cannot be written.
    """
    if not rival.has_drop_in:
        return False
    program = _PROGRAMS[rival.name]
    path = root / program.file.format(interface)
    try:
        before = _read(path)
        if program.drop_in:
            wanted = program.drop_in.format(interface, interface)
        else:
            wanted = BLOCK.format(interface) + _without_block(before or "", interface)
        if before == wanted:
            return False
        kept = _load(state, interface)
        kept.setdefault(rival.name, before)  # what was kept first is the oldest
        state.mkdir(parents=True, exist_ok=True)
        atomic.write(state / KEPT.format(interface), msgspec.json.encode(kept))
        _write(path, wanted)
    except OSError as error:
        raise KernelError.from_errno(error.errno or 0, f"write {path}") from error
    log.warning("told to leave the interface alone", program=rival.name, interface=interface, file=str(path))
    _tell(rival.name, root)
    return True


def undo(interface: str, *, state: Path, root: Path = Path("/")) -> None:
    """Take away what `leave_alone` wrote for this interface, and tell the programs; what cannot be is logged."""
    left: dict[str, str | None] = {}
    for name, before in _load(state, interface).items():
        program = _PROGRAMS[name]
        path = root / program.file.format(interface)
        try:
            was = before if program.drop_in else _without_block(_read(path) or "", interface)
            if before is None and not was:
                path.unlink(missing_ok=True)
            else:
                _write(path, was or "")
        except OSError as error:
            log.warning("not taken away", file=str(path), interface=interface, reason=str(error))
            left[name] = before
            continue
        _tell(name, root)
    kept = state / KEPT.format(interface)
    if left:
        atomic.write(kept, msgspec.json.encode(left))
    else:
        kept.unlink(missing_ok=True)


def _tell(name: str, root: Path) -> None:
    """Have a program read its configuration, if it runs here. What remains for a person to do is logged."""
    running = [process for command, process in processes(root) if command == _PROGRAMS[name].command]
    if not running:
        return
    if name == "NetworkManager":
        for process in running:
            with suppress(OSError):  # it has ended
                os.kill(int(process.name), signal.SIGHUP)
        return
    command = ("networkctl", "reload") if name == "systemd-networkd" else _restart(running[0], root)
    if command is None:
        log.error("restart it: it does not read its configuration otherwise, and nothing here manages it", program=name)
        return
    try:
        environment = {**os.environ, "PATH": search_path()}
        subprocess.run(command, check=True, capture_output=True, timeout=WITHIN, env=environment)
    except (OSError, subprocess.SubprocessError) as error:
        log.error("not told; do it by hand", program=name, do=" ".join(command), reason=str(error))


def _restart(process: Path, root: Path) -> tuple[str, ...] | None:
    """What has the service manager restart it; None without one."""
    if (root / "run/systemd/system").is_dir():  # sd_booted(3)
        unit = re.search(r"/([^/\n]+\.service)\b", _read(process / "cgroup") or "")
        return None if unit is None else ("systemctl", "try-restart", unit[1])
    return ("rc-service", "dhcpcd", "restart") if (root / "run/openrc").is_dir() else None


def _without_block(text: str, interface: str) -> str:
    begin, _, end = (re.escape(line) for line in BLOCK.format(interface).splitlines())
    return re.sub(rf"^{begin}\n.*?^{end}\n", "", text, flags=re.MULTILINE | re.DOTALL)


def _load(state: Path, interface: str) -> dict[str, str | None]:
    """What was there before, by the name of the program; None: nothing."""
    try:
        return msgspec.json.decode((state / KEPT.format(interface)).read_bytes(), type=dict[str, str | None])
    except (OSError, msgspec.DecodeError):
        return {}


def _read(path: Path) -> str | None:
    try:
        return path.read_text(errors="surrogateescape")
    except FileNotFoundError:
        return None


def _write(path: Path, text: str) -> None:
    path = path.resolve()  # a link stays one
    path.parent.mkdir(parents=True, exist_ok=True)
    mode = path.stat().st_mode & 0o777 if path.exists() else 0o644
    atomic.write(path, text.encode(errors="surrogateescape"), mode=mode)
