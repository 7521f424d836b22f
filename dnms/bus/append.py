"""Append with a certain end: an acknowledgement that was lost is looked for in the log itself."""

from __future__ import annotations

import asyncio

from dnms.bus.port import Log, LogError, LostRace, Unanswered, Unavailable

PATIENCE = 15.0
"""Seconds. Three replicas needed 9 after their leader was killed; a crashed embedded server is back in 1."""

FIRST_PAUSE = 0.01
LONGEST_PAUSE = 0.5
"""Seconds between two attempts, doubling from the one to the other."""


async def append(log: Log, subject: str, data: bytes, *, expected: int, patience: float = PATIENCE) -> int:
    """Store `data` as the next message on `subject` after `expected`, and return its sequence.

    A lost acknowledgement is resolved by the first message on the subject after `expected`: ours byte for byte, it was
    stored; another's, the race is lost; none, the identical message is stored again. That cannot store it twice, since
    both attempts expect the same sequence. What is stored must be unique therefore; a commit's id makes it so.

    LostRace. After `patience` seconds Unanswered if it may be stored, or may yet be; else Unavailable.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + patience
    pause = FIRST_PAUSE
    doubt: Unanswered | None = None  # an attempt of ours may be stored
    while True:
        failure: LogError
        try:
            return await log.store(subject, data, expected=expected)
        except LostRace as error:
            if doubt is None:
                raise
            failure = error  # perhaps to ourselves
        except Unanswered as error:
            failure = doubt = error
        except Unavailable as error:
            failure = error
        if doubt is not None:
            try:
                found = await log.first_after(subject, expected)
            except Unavailable as error:
                failure = error
            else:
                if found is not None and found.data == data:
                    return found.sequence
                if found is not None:
                    raise LostRace(f"{subject}: another commit is at {found.sequence}")
        if loop.time() + pause > deadline:
            if doubt is None:
                raise failure
            raise Unanswered(f"{subject}: perhaps stored after {expected}, and nobody answers: {failure}") from failure
        await asyncio.sleep(pause)
        pause = min(pause * 2, LONGEST_PAUSE)
