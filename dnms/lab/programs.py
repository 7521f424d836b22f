"""Other makers' programs in the namespaces of the lab."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from dnms.lab.lab import LabError
from dnms.linux.namespaces import Namespace, search_path


def program(name: str, package: str) -> str:
    """Where a program of a Debian package is. LabError if it is not installed."""
    found = shutil.which(name, path=search_path())
    if found is None:
        raise LabError(f"{name} is not installed: apt-get install {package}")
    return found


def start(
    namespace: Namespace, words: Sequence[str], *, log: Path, environment: Mapping[str, str] | None = None
) -> subprocess.Popen[bytes]:
    """Start one there, with these variables beside those of the lab; who starts it ends it."""
    with namespace.entered(), log.open("ab") as out:
        variables = {**os.environ, **(environment or {})}
        return subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=variables)
