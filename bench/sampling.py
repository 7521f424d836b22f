"""Where a process spends its CPU, by part: samples of what it is at, taken by a timer that counts its CPU time.

A tracing profiler makes each call of Python dearer, and C not: it would show a program with more Python in it. This one
costs 0.5 %. Signals are handled between two instructions, so a call into C (a handshake, an encoder) counts for the
function that called it, which is what is wanted. A function that is entered by C, as the event loop enters what it
calls, may get a sample that was due before: one that finds a function at its very first instruction, or resumed and not
yet any further, counts for who called it.

The kernel counts the time in steps of its clock (4 ms at 250 Hz): the shares of a second of CPU are good to 3 %.
"""

from __future__ import annotations

import dis
import signal
from collections import Counter
from collections.abc import Iterator
from types import FrameType

INTERVAL = 0.001  # seconds of CPU, or as much more as the kernel's clock makes of it

TLS_HANDSHAKE, TLS_RECORDS = "TLS handshake", "TLS records"
LOOP = "event loop"

_HANDSHAKE = {"do_handshake", "wrap_bio", "_create", "getpeercert"}
_PROTOCOL_HANDSHAKE = {"__init__", "_start_handshake", "_do_handshake", "_on_handshake_complete", "_set_state"}

PARTS = (
    ("/structlog/", "log lines"),
    ("/dnms/kit/logging", "log lines"),
    ("/nats/", "bus client"),
    ("/dnms/bus/committer", "group commit"),
    ("/dnms/bus/drafting", "group commit"),
    ("/dnms/bus/append", "group commit"),
    ("/dnms/bus/", "bus client"),
    ("/dnms/domain/node_plan", "node's plan"),
    ("/dnms/domain/", "decisions and folds"),
    ("/dnms/wire/", "wire codec and sessions"),
    ("/dnms/disk/", "disk"),
    ("/dnms/linux/", "datagrams"),
    ("/dnms/agents/tls", TLS_HANDSHAKE),
    ("/dnms/agents/pump", "pump"),
    ("/dnms/agents/", "agent's shell"),
    ("/bench/", "the benchmark itself"),
    ("/asyncio/", LOOP),
    ("/selectors.py", LOOP),
)
"""The first that is in the name of a function's file says which part it is; what is in none counts for its caller."""

_RESUME = dis.opmap["RESUME"]


class Sampler:
    """Takes samples between `start` and `stop`, in the main thread."""

    def __init__(self) -> None:
        self._found: Counter[str] = Counter()

    def start(self) -> None:
        """Begin anew."""
        self._found.clear()
        signal.signal(signal.SIGPROF, self._take)
        signal.siginterrupt(signal.SIGPROF, False)
        signal.setitimer(signal.ITIMER_PROF, INTERVAL, INTERVAL)

    def stop(self) -> dict[str, int]:
        """How many samples each part has."""
        signal.setitimer(signal.ITIMER_PROF, 0)
        return dict(self._found)

    def _take(self, _: int, frame: FrameType | None) -> None:
        if frame is not None:
            self._found[part(frame)] += 1


def part(frame: FrameType) -> str:
    """What a process is at, by the innermost function that belongs to a part."""
    entered = frame.f_code.co_code[frame.f_lasti] == _RESUME
    for each in _outwards(frame.f_back if entered and frame.f_back is not None else frame):
        if (found := _part(each.f_code.co_filename, each.f_code.co_name)) is not None:
            return found
    return LOOP


def _outwards(frame: FrameType | None) -> Iterator[FrameType]:
    while frame is not None:
        yield frame
        frame = frame.f_back


def _part(file: str, function: str) -> str | None:
    if file.endswith("/ssl.py"):
        return TLS_HANDSHAKE if function in _HANDSHAKE else TLS_RECORDS
    if file.endswith("/asyncio/sslproto.py"):
        return TLS_HANDSHAKE if function in _PROTOCOL_HANDSHAKE else TLS_RECORDS
    if file.endswith("/dnms/events/codec.py") and function in ("encode", "encoded", "decode"):
        return "commit codec"
    return next((name for piece, name in PARTS if piece in file), None)
