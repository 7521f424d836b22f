"""`python -m dnms.agents.subnet`."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from pathlib import Path

from dnms.agents.subnet.agent import NODE_STATE, SubnetAgentError, SubnetSettings, run
from dnms.agents.subnet.loop import new_event_loop
from dnms.agents.subnet.newcomers import NEW_AT_ONCE
from dnms.agents.usage import Parser, bus, name, within
from dnms.kit import logging
from dnms.wire.messages import PORT


def main(argv: list[str]) -> int:
    """Run a Subnet Agent until SIGINT or SIGTERM; 0, or 3 if it cannot run here or must not go on.

    Wrong usage is SystemExit with 2.
    """
    parser = Parser(prog="dnms subnet-agent", description="Serves the nodes of one link.")
    link = parser.add_mutually_exclusive_group(required=True)
    link.add_argument("--interface", default="", help="the interface on the link")
    link.add_argument(
        "--relay",
        type=name,
        action="append",
        default=[],
        metavar="NAME",
        help="this machine is not on the link: a relay that is, and may speak for its nodes; once for each",
    )
    parser.add_argument("--subnet", type=name, required=True, help="the link's name in the plan")
    host = socket.gethostname().lower().partition(".")[0]  # a name is one label: subjects of the log have it
    parser.add_argument("--name", type=name, default=host, help="this agent's name (default: %(default)s)")
    parser.add_argument(
        "--site",
        type=Path,
        default=Path(os.environ.get("DNMS_SITE", "/var/lib/dnms/site")),
        help="the site's directory (default: %(default)s)",
    )
    parser.add_argument(
        "--state",
        type=Path,
        help="where it keeps its journal of what it gives while the bus is away, and its snapshot "
        "(default: agent/NAME beside the site's directory)",
    )
    parser.add_argument(
        "--bus",
        type=bus,
        default=os.environ.get("DNMS_BUS", "nats://127.0.0.1:4222"),
        help="where the log is (default: %(default)s)",
    )
    parser.add_argument(
        "--port", type=within(0, 65_535), default=PORT, help="TCP port of sessions (default: %(default)s)"
    )
    parser.add_argument("--preference", type=within(0, 255), default=0, help="0 to 255, the higher is chosen first")
    parser.add_argument(
        "--new-nodes",
        type=within(1, 1_000_000),
        default=NEW_AT_ONCE,
        help="how many nodes that are new to the site may come from one address at once; then one a minute "
        "(default: %(default)s)",
    )
    parser.add_argument(
        "--uplink",
        default="",
        metavar="INTERFACE",
        help="this machine is the router of the link, and is delegated prefixes on this interface",
    )
    parser.add_argument(
        "--node-state",
        type=Path,
        default=NODE_STATE,
        help="where the Node Agent of that interface keeps its state (default: %(default)s)",
    )
    parser.add_argument(
        "--dhcpv6",
        action="store_true",
        help="serve what has no Node Agent by DHCPv6: addresses, prefixes, and what the link tells",
    )
    parser.add_argument(
        "--dhcpv4", action="store_true", help="give addresses to machines without a Node Agent, by DHCPv4"
    )
    parser.add_argument(
        "--watch", action="store_true", help="see who is on the link without an agent, and what is wrong there"
    )
    parser.add_argument("--verbose", action="store_true", help="log more")
    arguments = parser.parse_args(argv)
    if arguments.uplink and arguments.uplink == arguments.interface:
        parser.error("--uplink is the interface towards the one above, and --interface that towards the nodes")
    for option in ("uplink", "dhcpv6", "dhcpv4", "watch"):
        if arguments.relay and getattr(arguments, option):
            parser.error(f"--{option} is for a machine that is on the link, and --relay for one that is not")
    logging.configure(verbose=arguments.verbose)
    settings = SubnetSettings(
        interface=arguments.interface,
        relays=tuple(arguments.relay),
        subnet=arguments.subnet,
        name=arguments.name,
        site=arguments.site,
        bus=arguments.bus,
        port=arguments.port,
        preference=arguments.preference,
        new_nodes=arguments.new_nodes,
        state=arguments.state,
        uplink=arguments.uplink,
        node_state=arguments.node_state,
        dhcpv6=arguments.dhcpv6,
        dhcpv4=arguments.dhcpv4,
        watch=arguments.watch,
    )
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        return runner.run(_until_signalled(settings))


async def _until_signalled(settings: SubnetSettings) -> int:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    try:
        await run(settings, stop=stop)
    except SubnetAgentError as error:
        print(f"dnms: {error}", file=sys.stderr)
        return 3
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
