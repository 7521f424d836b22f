"""Subjects as architecture has them; a log that is named otherwise is not found again."""

from __future__ import annotations

from dnms.events import subjects


def test_their_names() -> None:
    client = bytes([0x0A]) + bytes(15)
    assert subjects.stream("home") == "DNMS_home"
    assert subjects.everything("home") == "dnms.home.>"
    assert subjects.plan("home") == "dnms.home.plan"
    assert subjects.node("home", client) == "dnms.home.node.0a"
    assert subjects.nodes("home") == "dnms.home.node.*"
    assert subjects.ledger("home", "lan") == "dnms.home.ledger.lan"
    assert subjects.seen("home", "lan", "a1") == "dnms.home.seen.lan.a1"
