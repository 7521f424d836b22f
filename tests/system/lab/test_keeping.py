"""`dnms lab run --keep`: what a lab leaves is a site like any other, and can be asked."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

DNMS = Path(sys.executable).parent / "dnms"
DEADLINE = 120.0


def dnms(*words: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([DNMS, *map(str, words)], capture_output=True, text=True, timeout=DEADLINE, check=False)


def test_the_site_of_a_lab_is_kept_and_answers(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    ran = dnms("lab", "run", "basic", "--nodes", "2", "--agents", "1", "--keep", kept)
    assert ran.returncode == 0, ran.stderr
    site = kept / "site"
    assert f"dnms serve --site {site}" in ran.stderr
    nodes = dnms("node", "list", "--data", site, "-o", "json")
    assert nodes.returncode == 0, nodes.stderr
    assert sorted(each["name"] for each in json.loads(nodes.stdout)) == ["node-1", "node-2"]
    verified = dnms("view", "verify", "--site", site)
    assert verified.returncode == 0, verified.stderr


def test_nothing_is_kept_where_something_is(tmp_path: Path) -> None:
    (tmp_path / "mine").touch()
    ran = dnms("lab", "run", "basic", "--nodes", "1", "--agents", "1", "--keep", tmp_path)
    assert ran.returncode == 2
    assert f"cannot keep anything in {tmp_path}: Directory not empty" in ran.stderr
    assert [each.name for each in tmp_path.iterdir()] == ["mine"]
