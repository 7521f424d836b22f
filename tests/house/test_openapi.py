"""The published description of the API is that of the code."""

from __future__ import annotations

import json
import re

from tests.house.openapi import PUBLISHED, text


def test_the_published_description_is_what_the_code_generates() -> None:
    assert PUBLISHED.read_text() == text(), "run `make openapi`"


def test_every_operation_says_what_it_does_and_every_reference_leads_somewhere() -> None:
    found = json.loads(PUBLISHED.read_text())
    assert found["openapi"] == "3.1.0"
    operations = [one for path in found["paths"].values() for one in path.values()]
    assert len({one["operationId"] for one in operations}) == len(operations) > 20
    assert all(one["description"] and "default" in one["responses"] for one in operations)
    for reference in set(re.findall(r'"#/([^"]+)"', PUBLISHED.read_text())):
        at = found
        for part in reference.split("/"):
            at = at[part]
