"""Runs a command in namespaces of its own: users, mounts, network, processes.

What it builds there cannot reach the machine's network and cannot outlive it: when the first process in there ends,
even by SIGKILL, the kernel ends every other one, and with the last one go namespaces and mounts.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Sequence
from types import FrameType

from dnms.linux.namespaces import end_with_parent, search_path

_TRIAL = "echo 0 > /proc/sys/net/ipv6/conf/lo/accept_ra"
_TRIAL_OF_IP = (
    "ip link add name trial type bridge && ip link add trial-1 type veth peer name trial-2 && ip link set lo up"
)
"""What the lab does in there, in small. Only trying it tells, on every kernel and in every container. Where `ip` is not
installed, that says nothing of namespaces."""


class NoIsolation(Exception):
    """This machine does not let this user have namespaces of his own; one clear line."""


class NoUnshare(NoIsolation):
    """Whether it would cannot be tried."""


def wrapper() -> list[str]:
    """The words to put before a command, so that it runs isolated as root in there; tried on this machine, for real.

    As an ordinary user it is a user namespace. NoIsolation.
    """
    unshare = shutil.which("unshare", path=search_path())
    if unshare is None:
        raise NoUnshare("util-linux (the program `unshare`) is not installed")
    base = [unshare, "--mount", "--net", "--pid", "--fork", "--kill-child"]
    complaint = ""
    trial = _TRIAL if shutil.which("ip", path=search_path()) is None else f"{_TRIAL_OF_IP} && {_TRIAL}"
    # Mounting /proc anew is refused in containers that hide parts of it; it works without, as long as nobody asks
    # /proc for another process by its number.
    for options in (["--mount-proc"], []):
        for user in ([], ["--user", "--map-root-user"]) if os.geteuid() == 0 else (["--user", "--map-root-user"],):
            words = [*base, *options, *user, "--"]
            done = subprocess.run(
                [*words, "sh", "-c", trial],
                env={**os.environ, "PATH": search_path()},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                check=False,
            )
            if done.returncode == 0:
                return words
            complaint = complaint or (done.stderr.strip() or f"exit code {done.returncode}").splitlines()[0]
    who = "root here" if os.geteuid() == 0 else "an ordinary user here (try as root)"
    raise NoIsolation(f"namespaces are not allowed to {who}: {complaint}")


def run(words: Sequence[str], command: Sequence[str]) -> int:
    """Run `command` behind `words` of `wrapper` to its end; it is killed when this process ends.

    Its standard input ends when it should stop: at the first SIGINT or SIGTERM here. At the second it is killed. (A
    signal would not reach it, since `unshare` stands between, and a pid means something else in there.)

    Returns its exit code, negative if it was killed; or 128 and the signal by which it was stopped here.
    """
    reading, writing = os.pipe()
    child = subprocess.Popen(
        [*words, *command],
        stdin=reading,
        env={**os.environ, "PATH": search_path()},
        preexec_fn=lambda: end_with_parent(signal.SIGKILL),  # noqa: PLW1509  # called where no other thread runs
    )
    os.close(reading)
    stopped_by = 0

    def stop(number: int, _frame: FrameType | None) -> None:
        nonlocal stopped_by
        if stopped_by:
            child.kill()
        else:
            stopped_by = number
            os.close(writing)

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        code = child.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if not stopped_by:
            os.close(writing)
    return 128 + stopped_by if stopped_by else code
