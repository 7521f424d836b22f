"""`dnms init`: a new site."""

from __future__ import annotations

from typing import Annotated

import msgspec
from cyclopts import Parameter
from rich.console import RenderableType

from dnms.cli.exits import MACHINE, OK, USAGE, Failure
from dnms.cli.options import SITE, SiteDirectory
from dnms.cli.rendering import Output, answer, facts
from dnms.disk.site import Site, SiteError


class Made(msgspec.Struct, frozen=True):
    """What was made."""

    site: str
    directory: str
    root_certificate: str


def init(
    name: Annotated[str, Parameter(help="Its name: lower-case letters, digits and hyphens.")],
    /,
    *,
    site: SiteDirectory = SITE,
    output: Output = "table",
) -> int:
    """Make a new site: a directory with its secret, its certificates and its tokens."""
    try:
        made = Site.create(site, name)
    except SiteError as error:
        raise Failure(MACHINE if isinstance(error.__cause__, OSError) else USAGE, str(error)) from error
    said = Made(made.name, str(made.path.absolute()), str(made.root_certificate.absolute()))

    def tables() -> list[RenderableType]:
        return [
            facts(
                [
                    ("site", said.site),
                    ("directory", f"{said.directory} (secrets: keep a copy, and show it to nobody)"),
                    ("root certificate", f"{said.root_certificate} (give it to every node)"),
                    ("next", f"dnms serve{'' if site == SITE else f' --site {site}'}"),
                ]
            )
        ]

    answer(said, tables, output)
    return OK
