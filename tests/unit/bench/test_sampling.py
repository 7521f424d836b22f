from __future__ import annotations

import ssl
import sys
from types import FrameType
from typing import Any

from bench import sampling
from bench.joins import percentile


def frame_of(text: str, file: str) -> FrameType:
    """A frame of a function that stands in this file, stopped behind its first instruction."""
    scope: dict[str, Any] = {"sys": sys}
    exec(compile(f"def {text}():\n    return sys._getframe()", file, "exec"), scope)
    frame: FrameType = scope[text]()
    return frame


def test_the_innermost_function_of_a_part_counts() -> None:
    assert sampling.part(frame_of("do_handshake", ssl.__file__)) == sampling.TLS_HANDSHAKE
    assert sampling.part(frame_of("read", ssl.__file__)) == sampling.TLS_RECORDS
    assert sampling.part(frame_of("decide", "/somewhere/dnms/domain/ledger.py")) == "decisions and folds"
    assert sampling.part(frame_of("encoded", "/somewhere/dnms/events/codec.py")) == "commit codec"
    assert sampling.part(frame_of("run", "/somewhere/asyncio/runners.py")) == sampling.LOOP


def test_what_is_in_no_part_counts_for_its_caller() -> None:
    """Addresses are read for the wire and for the log."""
    scope: dict[str, Any] = {"sys": sys, "part": sampling.part}
    code = "def inner():\n    return part(sys._getframe())"
    exec(compile(code, "/somewhere/dnms/events/ip.py", "exec"), scope)
    exec(compile("def outer():\n    return inner()", "/somewhere/dnms/wire/frames.py", "exec"), scope)
    assert scope["outer"]() == "wire codec and sessions"


def test_percentiles_are_nearest_ranks() -> None:
    values = [float(number) for number in range(1, 201)]
    assert [percentile(values, percent) for percent in (50, 99, 100)] == [100.0, 198.0, 200.0]
    assert percentile([7.0], 50) == 7.0
