"""`python -m dnms.agents.relay`."""

from __future__ import annotations

import argparse
import asyncio
import datetime
import os
import signal
import sys
from pathlib import Path

from dnms.agents.relay.relay import RelayError, RelaySettings, run
from dnms.agents.usage import Parser, endpoint, name, within
from dnms.disk.relay_credentials import CERTIFICATE, KEY, CredentialsError, store
from dnms.disk.site import Site, SiteError
from dnms.kit import logging
from dnms.wire.messages import PORT

ISSUE = "issue"
"""The first word of a command line that makes a relay's key and certificate; any other runs a relay."""

MACHINE, USAGE = 3, 2


def main(argv: list[str]) -> int:
    """Run a relay until SIGINT or SIGTERM, or issue a certificate; 0, or 3 if it cannot be done here.

    Wrong usage is SystemExit with 2.
    """
    if argv[:1] == [ISSUE]:
        return _issue(argv[1:])
    parser = Parser(
        prog="dnms relay",
        description="Passes the nodes of a link on to Subnet Agents that are elsewhere.",
        epilog=f"`%(prog)s {ISSUE} NAME DIRECTORY` makes a relay's key and certificate, where the site is.",
    )
    parser.add_argument("--interface", required=True, help="the interface on the link")
    parser.add_argument("--subnet", type=name, required=True, help="the link's name in the plan")
    parser.add_argument(
        "--agent",
        type=endpoint,
        action="append",
        required=True,
        metavar="ADDRESS",
        help=f"where a Subnet Agent listens: an address, or [ADDRESS]:PORT (default: {PORT}); once for each",
    )
    parser.add_argument(
        "--directory",
        type=Path,
        default=Path("/etc/dnms/relay"),
        help=f"where {CERTIFICATE} and {KEY} are (default: %(default)s)",
    )
    parser.add_argument(
        "--port", type=within(0, 65_535), default=PORT, help="TCP port for nodes (default: %(default)s)"
    )
    parser.add_argument("--verbose", action="store_true", help="log more")
    arguments = parser.parse_args(argv)
    logging.configure(verbose=arguments.verbose)
    return asyncio.run(_until_signalled(_settings(arguments)))


def _issue(argv: list[str]) -> int:
    parser = Parser(
        prog=f"dnms relay {ISSUE}",
        description="Makes a relay's key and certificate. Bring both to the relay, and keep no copy of the key.",
    )
    parser.add_argument("name", type=name, metavar="NAME", help="the relay's name, by which agents are told of it")
    parser.add_argument("directory", type=Path, metavar="DIRECTORY", help="where to write both")
    parser.add_argument(
        "--site",
        type=Path,
        default=Path(os.environ.get("DNMS_SITE", "/var/lib/dnms/site")),
        help="the site's directory (default: %(default)s)",
    )
    arguments = parser.parse_args(argv)
    try:
        issued = Site.load(arguments.site).issue_relay(arguments.name, at=datetime.datetime.now(datetime.UTC))
        store(issued, arguments.directory)
    except (CredentialsError, SiteError) as error:
        print(f"dnms: {error}", file=sys.stderr)
        return MACHINE if isinstance(error.__cause__, OSError) else USAGE
    print(f"{arguments.directory / CERTIFICATE}\n{arguments.directory / KEY}")
    return 0


def _settings(arguments: argparse.Namespace) -> RelaySettings:
    return RelaySettings(
        interface=arguments.interface,
        subnet=arguments.subnet,
        agents=tuple(dict.fromkeys(arguments.agent)),
        directory=arguments.directory,
        port=arguments.port,
    )


async def _until_signalled(settings: RelaySettings) -> int:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    try:
        await run(settings, stop=stop)
    except RelayError as error:
        print(f"dnms: {error}", file=sys.stderr)
        return MACHINE
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
