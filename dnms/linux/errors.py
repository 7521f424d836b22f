"""What the kernel refuses, by a stable word."""

from __future__ import annotations

import errno
import os

WORDS = {
    errno.EPERM: "not-permitted",
    errno.EACCES: "not-permitted",  # also: IPv6 is disabled on the interface
    errno.EROFS: "read-only",
    errno.ENODEV: "no-interface",
    errno.ENXIO: "no-interface",
    errno.ENETDOWN: "interface-down",
    errno.EEXIST: "exists",
    errno.ENOENT: "not-there",
    errno.ESRCH: "not-there",
    errno.EADDRNOTAVAIL: "not-there",
    errno.EADDRINUSE: "in-use",
    errno.ENETUNREACH: "unreachable",
    errno.EHOSTUNREACH: "unreachable",
    errno.EINVAL: "invalid",
    errno.ERANGE: "invalid",
    errno.EOPNOTSUPP: "not-supported",
    errno.EAFNOSUPPORT: "not-supported",
    errno.ENOBUFS: "overrun",
    errno.ENOMEM: "no-memory",
}


class KernelError(Exception):
    """The kernel did not do what was asked. `why` is a stable word, the text is for people."""

    def __init__(self, why: str, text: str) -> None:
        super().__init__(f"{text} ({why})")
        self.why = why
        self.text = text

    @classmethod
    def from_errno(cls, code: int, doing: str, detail: str = "") -> KernelError:
        """Name an errno; `detail` is what the kernel said about it."""
        why = WORDS.get(code) or errno.errorcode.get(code, "unknown").lower()
        return cls(why, f"cannot {doing}: {detail or os.strerror(code)}")
