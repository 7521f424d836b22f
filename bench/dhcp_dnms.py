"""DNMS as a DHCP server to be measured: `python -m bench.dhcp_dnms FOLDER INTERFACE`, in this namespace.

A new site whose log syncs before it acknowledges, the plan that its peers have too, and the Subnet Agent as a process
of its own. It serves until SIGTERM. The agent's settings are those of an operator with clients that all come from one
address, as perfdhcp's do, or through one relay: see `NEW_NODES`.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
from pathlib import Path

from bench.joins import NAME, served
from bench.processes import running

SUBNET = "office"
NEW_NODES = 1_000_000
"""All clients of perfdhcp come from one address, and each is new."""

PLAN = f"""
[site]
name = "{NAME}"
[[subnet]]
name = "{SUBNET}"
prefixes = ["2001:db8:1::/64", "10.0.0.0/8"]
[[pool]]
name = "{SUBNET}-v6"
subnet = "{SUBNET}"
range = "2001:db8:1:0:1::/80"
preferred = 3000
valid = 4000
[[pool]]
name = "{SUBNET}-v4"
subnet = "{SUBNET}"
range = "10.1.0.0-10.255.255.254"
preferred = 4000
valid = 4000
[[delegation]]
name = "{SUBNET}-blocks"
subnet = "{SUBNET}"
prefix = "2001:db8:8000::/33"
length = 64
preferred = 3000
valid = 4000
"""


async def serve(folder: Path, interface: str, *extra: str) -> None:
    """Until SIGTERM."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    async with served(folder, PLAN) as (site, server, _):
        (folder / "server.pid").write_text(str(server.pid))
        command = (sys.executable, *extra, "-m", "dnms.agents.subnet", "--interface", interface, "--subnet", SUBNET)
        options = ("--name", "bench", "--site", str(site.path), "--bus", server.url, "--dhcpv6", "--dhcpv4")
        with running(*command, *options, "--new-nodes", str(NEW_NODES), log=folder / "agent.log") as agent:
            (folder / "agent.pid").write_text(str(agent.pid))
            await stop.wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m bench.dhcp_dnms")
    parser.add_argument("folder", type=Path)
    parser.add_argument("interface")
    given = parser.parse_args()
    asyncio.run(serve(given.folder, given.interface))
