"""Options that several commands have."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import msgspec
from cyclopts import Parameter, Token

from dnms.bus import urls
from dnms.cli import times
from dnms.cli.rendering import say
from dnms.events.ip import format_address, parse_address, parse_prefix

SITE = Path("/var/lib/dnms/site")
"""Where a site's directory lies if nobody says otherwise."""


class Endpoint(msgspec.Struct, frozen=True):
    """A host and a TCP port; port 0 is a free one."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


HOST = "127.0.0.1"
MAX_PORT = 65535
API_PORT = 61080  # above Linux's ephemeral ports, which end at 60999: no outgoing connection can hold it
BUS_PORT = 4222  # NATS' own

API = f"http://{HOST}:{API_PORT}"

SiteDirectory = Annotated[
    Path, Parameter(name="--site", env_var="DNMS_SITE", help="The site's directory, as `dnms init` made it.")
]

ApiUrl = Annotated[str, Parameter(name="--api", env_var="DNMS_API", help="The API's URL.")]


def _address(_: Any, tokens: list[Token]) -> str:
    return parse_address_text(tokens[0].value)


def _address_or_prefix(_: Any, tokens: list[Token]) -> str:
    return parse_address_or_prefix(tokens[0].value)


def _prefix(_: Any, tokens: list[Token]) -> str:
    return str(parse_prefix(tokens[0].value))


def _moment(_: Any, tokens: list[Token]) -> datetime:
    text = tokens[0].value
    moment = times.parse_moment(text)
    if (how := times.understood(text, moment)) is not None:
        say(how)
    return moment


def _as_of(kind: Any, tokens: list[Token]) -> datetime | int:
    text = tokens[0].value
    return int(text[1:]) if text.startswith("#") and text[1:].isdecimal() else _moment(kind, tokens)


def _endpoint(_: Any, tokens: list[Token]) -> Endpoint:
    return parse_endpoint(tokens[0].value)


def _bus(_: Any, tokens: list[Token]) -> str:
    return urls.checked(tokens[0].value)


def parse_address_text(text: str) -> str:
    """An address in the form of the log's answers; a prefix length behind it says nothing here. ValueError."""
    address, slash, length = text.partition("/")
    return format_address(parse_address(text if slash and not length.isdecimal() else address))


def parse_address_or_prefix(text: str) -> str:
    """A prefix, or an address; one with a length behind it whose other bits are not zero is an address. ValueError."""
    try:
        return str(parse_prefix(text)) if "/" in text else parse_address_text(text)
    except ValueError:
        return parse_address_text(text)


def parse_endpoint(text: str) -> Endpoint:
    """`HOST:PORT`, an IPv6 address in brackets; ValueError."""
    host, colon, port = text.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    if not colon or not host or not port.isdecimal() or int(port) > MAX_PORT or (":" in host and not bracketed):
        raise ValueError("expected HOST:PORT, such as 127.0.0.1:61080 or [::1]:61080")
    return Endpoint(host.strip("[]"), int(port))


AddressText = Annotated[str, Parameter(converter=_address)]
"""An address, as `parse_address_text` reads it."""

AddressOrPrefix = Annotated[str, Parameter(converter=_address_or_prefix)]
"""An address or a prefix, as `parse_address_or_prefix` reads it."""

PrefixText = Annotated[str, Parameter(converter=_prefix)]
"""A prefix in the form of the log's answers; the bits behind it are zero."""

Moment = Annotated[datetime, Parameter(converter=_moment)]
"""An instant, as `times.parse_moment` reads it. How words were understood is said on stderr."""

AsOf = Annotated[datetime | int, Parameter(converter=_as_of)]
"""An instant, or `#` and the sequence of a commit."""

WHEN = "ISO 8601 (UTC unless it names a zone), seconds since 1970, or words such as 'last tuesday 14:03' (local time)."

EndpointText = Annotated[Endpoint, Parameter(converter=_endpoint)]
"""A host and a port, as `parse_endpoint` reads them."""

BusText = Annotated[str, Parameter(converter=_bus)]
"""Where a bus is, as `dnms.bus.urls` reads it."""
