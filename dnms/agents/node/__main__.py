"""`python -m dnms.agents.node`: starts fast, since every machine of a site does it."""

from __future__ import annotations

import argparse
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

RELEASE = "release"
"""The first word of a command line that takes DNMS off interfaces; any other runs an agent."""


def main(argv: list[str]) -> int:
    """Run a Node Agent until SIGINT or SIGTERM, or release interfaces; 0, or 3 if it cannot be done here.

    Wrong usage is SystemExit with 2.
    """
    if argv[:1] == [RELEASE]:
        return _release(argv[1:])
    parser = Parser(
        prog="dnms node-agent",
        description="Configures one interface of this machine.",
        epilog=f"`%(prog)s {RELEASE} INTERFACE...` takes DNMS off interfaces again.",
    )
    parser.add_argument("--interface", required=True, help="the interface to manage")
    parser.add_argument(
        "--prefix",
        type=_prefix_length,
        nargs="?",
        const=0,
        metavar="LENGTH",
        help="ask for a prefix too, which the Subnet Agent of this machine gives on (LENGTH: a hint, 1 to 64)",
    )
    _add_options(parser)
    arguments = parser.parse_args(argv)
    return asyncio.run(_ended(_until_signalled(_settings(arguments, arguments.interface, arguments.prefix))))


def _release(argv: list[str]) -> int:
    """Make these interfaces what they were before; those that cannot be released keep no other from it."""
    parser = Parser(
        prog=f"dnms node-agent {RELEASE}",
        description="Makes everything as it was before the take-over, once the agents of these interfaces are stopped.",
    )
    parser.add_argument("interfaces", nargs="+", metavar="INTERFACE", help="an interface to take DNMS off")
    _add_options(parser)
    arguments = parser.parse_args(argv)
    return max([asyncio.run(_ended(give_back(_settings(arguments, each)))) for each in arguments.interfaces])


def _add_options(parser: Parser) -> None:
    """What an agent and a release are told alike, so that the one finds what the other has kept."""
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
    parser.add_argument("--verbose", action="store_true", help="log more")


def _prefix_length(text: str) -> int:
    """ValueError, of which argparse says that it is an invalid value."""
    length = int(text.removeprefix("/"))
    if not 1 <= length <= 64:
        raise argparse.ArgumentTypeError(f"{text!r} is no length of a prefix; expected 1 to 64")
    return length


def _settings(arguments: argparse.Namespace, interface: str, prefix: int | None = None) -> NodeSettings:
    logging.configure(verbose=arguments.verbose)
    return NodeSettings(
        interface=interface,
        state=arguments.state,
        root_certificate=arguments.root_certificate,
        name=arguments.name,
        resolv_conf=arguments.resolv_conf,
        prefix=prefix,
    )


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
