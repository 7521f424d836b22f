"""Writes docs/openapi.json: the description of the API, which no site changes."""

from __future__ import annotations

import json

from dnms.api import create_app
from dnms.api.description import described
from tests.house.tree import ROOT

PUBLISHED = ROOT / "docs" / "openapi.json"


def text() -> str:
    """The description, a line each fact, so that a change can be read."""
    app = create_app(
        site="example",
        views=None,  # type: ignore[arg-type]  # nothing is asked
        log=None,  # type: ignore[arg-type]
        plan_committer=None,  # type: ignore[arg-type]
        ledgers=None,  # type: ignore[arg-type]
        token="",
    )
    return json.dumps(described(app), indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    PUBLISHED.write_text(text())
