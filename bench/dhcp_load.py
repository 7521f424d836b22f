"""What DHCP servers are loaded with: perfdhcp (of Kea's packages), and `bench.dhcp_client` where that has no mode."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from typing import Literal

import msgspec

from bench.dhcp_client import Paced
from bench.dhcp_servers import ADDRESS
from bench.joins import percentile
from dnms.linux.namespaces import Namespace

INTERFACE = "bench-c"
RELAY = "10.0.0.2"
PERFDHCP = "perfdhcp"
PERFDHCP_PACKAGE = "kea-admin"
RANGE = 20_000_000  # clients of a trial at most: each comes once
DRAIN = 400_000  # microseconds for what is under way at the end
GIVE_UP = 120.0  # seconds beyond a trial's own, before it counts as hung

Kind = Literal["four-way", "prefix", "rapid", "renew"]


class Load(msgspec.Struct, frozen=True):
    """One sort of exchange."""

    name: str
    family: int
    kind: Kind


FOUR_WAY_6 = Load("DHCPv6 four-way", 6, "four-way")
RAPID = Load("DHCPv6 Rapid Commit", 6, "rapid")
PREFIX = Load("DHCPv6 IA_PD", 6, "prefix")
RENEW_6 = Load("DHCPv6 renew", 6, "renew")
FOUR_WAY_4 = Load("DHCPv4 four-way", 4, "four-way")
RENEW_4 = Load("DHCPv4 renew", 4, "renew")
LOADS = (FOUR_WAY_6, RAPID, PREFIX, RENEW_6, FOUR_WAY_4, RENEW_4)

RENEWING = 2_000
"""Clients that renew, over and over."""


class Trial(msgspec.Struct, frozen=True):
    """What came of one load."""

    sent: int  # exchanges that were begun
    done: int
    p50: float  # ms, of the answer that the log is waited for
    p99: float

    @property
    def lost(self) -> float:
        """Which part of them."""
        return 1.0 - self.done / self.sent if self.sent else 1.0


def run(load: Load, namespace: Namespace, *, rate: float, seconds: float, turn: int) -> Trial:
    """Load the server from this namespace; each `turn` has clients of its own. RuntimeError if the generator fails."""
    if load.kind in ("rapid", "renew"):
        return _paced(load, namespace, rate=rate, seconds=seconds, turn=turn)
    options = ["-r", str(int(rate)), "-p", str(int(seconds)), "-R", str(RANGE), "-W", str(DRAIN), "-x", "t"]
    if load.kind == "prefix":
        options += ["-e", "prefix-only"]
    return parsed(_perfdhcp(load.family, namespace, options, turn=turn, within=seconds + GIVE_UP))


def avalanche(family: int, namespace: Namespace, clients: int) -> float:
    """So many clients at once; the seconds until the last one is served, who asks again until it is."""
    told = _perfdhcp(family, namespace, ["--scenario", "avalanche", "-R", str(clients)], turn=99, within=GIVE_UP)
    found = re.search(r"It took ([0-9:.]+) to provision", told) or re.search(r"It took .*?([0-9:.]+)", told)
    if found is None:
        raise RuntimeError(f"perfdhcp: {told[-500:]}")
    total = 0.0
    for part in found.group(1).split(":"):
        total = total * 60 + float(part)
    return total


def parsed(told: str) -> Trial:
    """What perfdhcp says at its end. RuntimeError if that is nothing."""
    sent = done = 0
    took: list[float] = []
    for section in re.findall(r"\*\*\*Statistics for: [A-Z-]+\*\*\*(.*?)(?=\*\*\*|\Z)", told, re.S):
        said = {name: int(value) for name, value in re.findall(r"(sent|received) packets: (\d+)", section)}
        sent, done = sent or said["sent"], said["received"]
    for section in re.findall(r"\*\*\*Timestamps for packets: [A-Z-]+\*\*\*(.*?)(?=\*\*\*|\Z)", told, re.S):
        times = re.findall(r"sent / received: ([0-9.]+) / ([0-9.]+)", section)
        took = [float(received) - float(at) for at, received in times]  # of the last, which is what is recorded
    if not sent:
        raise RuntimeError(f"perfdhcp: {told[-500:]}")
    p50, p99 = (round(percentile(took, each) * 1_000, 3) if took else 0.0 for each in (50, 99))
    return Trial(sent=sent, done=done, p50=p50, p99=p99)


def _perfdhcp(family: int, namespace: Namespace, options: Sequence[str], *, turn: int, within: float) -> str:
    program = shutil.which(PERFDHCP, path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if program is None:
        raise RuntimeError(f"perfdhcp is not installed; Debian has it: apt-get install {PERFDHCP_PACKAGE}")
    base = f"mac=02:{turn:02x}:00:00:00:00"
    command = [program, f"-{family}", "-l", INTERFACE, "-b", base, *options, *([ADDRESS] if family == 4 else [])]
    return _output(command, namespace, within)  # it ends with 3 where something was lost


def _paced(load: Load, namespace: Namespace, *, rate: float, seconds: float, turn: int) -> Trial:
    command = [sys.executable, "-m", "bench.dhcp_client", load.kind, "--family", str(load.family)]
    command += ["--interface", INTERFACE, "--relay", RELAY, "--server", ADDRESS, "--clients", str(RENEWING)]
    command += ["--first", str(turn << 20), "--rate", str(rate), "--seconds", str(seconds)]
    told = _output(command, namespace, seconds + GIVE_UP)
    try:
        found = msgspec.json.decode(told, type=Paced)
    except msgspec.MsgspecError:
        raise RuntimeError(f"bench.dhcp_client: {told[-500:]}") from None
    return Trial(sent=found.sent, done=found.received, p50=found.p50, p99=found.p99)


def _output(command: Sequence[str], namespace: Namespace, within: float) -> str:
    with namespace.entered():
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
    try:
        told, _ = process.communicate(timeout=within)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        raise RuntimeError(f"{command[0]} does not end within {within:.0f} s") from None
    return told
