"""How the agents and the relay are called: a mistake is one line, as all commands have it, and exit code 2."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from typing import NoReturn

import msgspec

from dnms.bus import urls
from dnms.events.ip import is_link_local, parse_address
from dnms.events.plan import Name
from dnms.wire.messages import PORT, Endpoint

USAGE = 2


class Parser(argparse.ArgumentParser):
    """Says what is wrong, and where all options are."""

    def error(self, message: str) -> NoReturn:
        """End with one line."""
        print(f"dnms: {message}; see `{self.prog} --help`", file=sys.stderr)
        sys.exit(USAGE)


def within(lowest: int, highest: int) -> Callable[[str], int]:
    """Takes an integer of this range."""

    def number(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is no whole number") from None
        if not lowest <= value <= highest:
            raise argparse.ArgumentTypeError(f"{value} is not within {lowest} to {highest}")
        return value

    return number


def name(text: str) -> str:
    """Takes a name that the log can have in its subjects."""
    try:
        return msgspec.convert(text, Name)
    except msgspec.ValidationError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no name; expected lower-case letters, digits and hyphens, at most 63"
        ) from None


def endpoint(text: str) -> Endpoint:
    """Takes an address with a port, or without: then it is that of sessions."""
    host, port = text, str(PORT)
    if text.startswith("[") or text.count(":") == 1:
        host, _, port = text.rpartition(":")
    try:
        address = parse_address(host.removeprefix("[").removesuffix("]"))
        if is_link_local(address):
            raise ValueError
        return msgspec.convert({"address": address, "port": int(port)}, Endpoint)
    except ValueError:  # msgspec's errors are such
        expected = f"192.0.2.1, 2001:db8::1 or [2001:db8::1]:{PORT}"
        raise argparse.ArgumentTypeError(f"{text!r} is no address that is routed; expected one as {expected}") from None


def bus(text: str) -> str:
    """Takes a URL of a bus."""
    try:
        return urls.checked(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
