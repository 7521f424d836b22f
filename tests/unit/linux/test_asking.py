"""How often a link is asked, and when that is enough."""

from __future__ import annotations

import asyncio

from dnms.linux.asking import ASKS, Answers, ask

ONE, TWO, HARDWARE = b"1", b"2", b"h"


async def asked(found: Answers, answer: dict[int, bytes]) -> int:
    """How often was asked, where the answers come upon the questions of these numbers."""
    sent = 0

    async def listen() -> None:
        await asyncio.Event().wait()

    def send() -> None:
        nonlocal sent
        sent += 1
        if sent in answer:
            found.note(answer[sent], HARDWARE)

    await ask(listen(), send, found.enough)
    return sent


async def test_who_wants_the_first_answers_asks_until_he_has_them() -> None:
    assert await asked(Answers(1), {1: ONE}) == 1
    assert await asked(Answers(2), {1: ONE, 2: TWO}) == 2
    assert await asked(Answers(2), {1: ONE}) == ASKS


async def test_who_wants_all_answers_listens_to_the_end() -> None:
    found = Answers()
    assert await asked(found, {1: ONE, 2: TWO}) == ASKS
    assert found.all() == {ONE: frozenset({HARDWARE}), TWO: frozenset({HARDWARE})}
