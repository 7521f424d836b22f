"""`python -m dnms.agents.node`: starts fast, since every machine of a site does it."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

from dnms.agents.node.agent import NodeAgentError, NodeSettings, run
from dnms.agents.node.giving_back import give_back
from dnms.agents.usage import Parser
from dnms.kit import logging


def main(argv: list[str]) -> int:
    """Run a Node Agent until SIGINT or SIGTERM; 0, or 3 if it cannot run here. Wrong usage is SystemExit with 2."""
    parser = Parser(prog="dnms node-agent", description="Configures one interface of this machine.")
    parser.add_argument("--interface", required=True, help="the interface to manage")
    parser.add_argument(
        "--root-certificate",
        type=Path,
        default=Path(os.environ.get("DNMS_ROOT_CERTIFICATE", "/etc/dnms/root.pem")),
        help="the site's root.pem (default: %(default)s)",
    )
    parser.add_argument(
        "--state",
        type=Path,
        default=Path(os.environ.get("DNMS_STATE", "/var/lib/dnms/node")),
        help="what the node keeps over a reboot (default: %(default)s)",
    )
    parser.add_argument("--name", default="", help="the node's name (default: the host name)")
    parser.add_argument("--resolv-conf", type=Path, default=Path("/etc/resolv.conf"), help="(default: %(default)s)")
    parser.add_argument(
        "--give-back",
        action="store_true",
        help="take DNMS off the interface once its agent is stopped: what was there before comes again",
    )
    parser.add_argument("--verbose", action="store_true", help="log more")
    arguments = parser.parse_args(argv)
    logging.configure(verbose=arguments.verbose)
    settings = NodeSettings(
        interface=arguments.interface,
        state=arguments.state,
        root_certificate=arguments.root_certificate,
        name=arguments.name,
        resolv_conf=arguments.resolv_conf,
    )
    return asyncio.run(_ended(give_back(settings) if arguments.give_back else _until_signalled(settings)))


async def _ended(work: Coroutine[Any, Any, None]) -> int:
    try:
        await work
    except NodeAgentError as error:
        print(f"dnms: {error}", file=sys.stderr)
        return 3
    return 0


async def _until_signalled(settings: NodeSettings) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await run(settings, stop=stop)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
