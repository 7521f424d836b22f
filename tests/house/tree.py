"""The project's files, for the tests that read them."""

from __future__ import annotations

import re
import subprocess
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]

_CODE_BLOCK = re.compile(r"^```console\n(.*?)^```", re.MULTILINE | re.DOTALL)


@cache
def tracked() -> tuple[Path, ...]:
    """All files that git has, or would take with the next commit."""
    words = ["git", "-c", f"safe.directory={ROOT}", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(words, cwd=ROOT, capture_output=True, check=True).stdout.decode()
    return tuple(path for name in listed.split("\0") if name and (path := ROOT / name).is_file())


def python(*folders: str) -> list[Path]:
    """The Python files below these folders of the project."""
    below = [ROOT / folder for folder in folders]
    return [path for path in tracked() if path.suffix == ".py" and any(path.is_relative_to(folder) for folder in below)]


def name(path: Path) -> str:
    """A file's name from the root of the project; for the ids of tests."""
    return str(path.relative_to(ROOT))


def commands(markdown: str) -> list[str]:
    """What a reader is told to type in ```console blocks: what follows a `$ `, or every line of a block without any."""
    found = []
    for block in _CODE_BLOCK.findall(markdown):
        lines = [line.strip() for line in block.replace("\\\n", " ").splitlines() if line.strip()]
        typed = [line[2:] for line in lines if line.startswith("$ ")]
        found.extend(typed or lines)
    return found
