"""Golden bytes of every message, in golden.json, and what docs/protocol.md shows of them and of the exchanges.

`python -m tests.unit.wire.golden_bytes` adds the messages that are missing, changes none, and draws the document again
between its markers.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import msgpack

from dnms.wire import datagrams, frames, relaying
from dnms.wire.drawing import diagram, timers
from tests.unit.events.golden_bytes import readable
from tests.unit.wire.examples import ANSWERS, FRAMES, OFFER, SAID, SOLICIT

GOLDEN = Path(__file__).parent / "golden.json"
DOCUMENT = Path(__file__).parents[3] / "docs" / "protocol.md"

_FOLD = 64  # zero bytes in a row that are shown as a number
_LINE = 32  # bytes


def encoded() -> dict[str, bytes]:
    """The bytes that this release makes of each example."""
    datagram = {"solicit": datagrams.encode_solicit(SOLICIT), "offer": datagrams.encode_offer(OFFER)}
    framed = {message.KIND: frames.encode(message, frame_id) for frame_id, message in FRAMES}
    return datagram | framed | relays()


def relays() -> dict[str, bytes]:
    """What relays and agents say to each other; the signature is none."""

    said = {
        name: relaying.encode_said(said, certificate=b"certificate", sign=lambda content: bytes(range(64)))
        for name, said in SAID.items()
    }
    return said | {name: relaying.encode_answer(answer) for name, answer in ANSWERS.items()}


def published() -> dict[str, bytes]:
    """The golden bytes."""
    rows: dict[str, Any] = json.loads(GOLDEN.read_text()) if GOLDEN.exists() else {}
    return {name: bytes.fromhex(row["hex"]) for name, row in rows.items()}


def value(name: str, data: bytes) -> Any:
    """What the reference library reads in it, behind the magic or the length."""
    head = 6 if name in ("solicit", "offer") else relaying.HEAD if name in {*SAID, *ANSWERS} else 4
    payload = data[head:]
    return readable(msgpack.unpackb(payload))


def examples() -> str:
    """The section of the document with every example."""
    parts = []
    for name, data in published().items():
        read = json.dumps(_folded(value(name, data)), ensure_ascii=False)
        parts.append(f"### `{name}`, {len(data)} bytes\n\n```\n{_dump(data)}\n```\n\n```json\n{read}\n```\n")
    return "\n".join(parts)


def document(text: str) -> str:
    """The document with its generated parts as they are now."""
    generated = {"diagram": f"```mermaid\n{diagram()}```\n", "timers": timers(), "examples": examples()}
    for marker, content in generated.items():
        pattern = re.compile(rf"(<!-- {marker} -->\n).*(<!-- end of {marker} -->)", re.DOTALL)
        text, found = pattern.subn(lambda match, new=content: f"{match[1]}\n{new}\n{match[2]}", text)  # type: ignore[misc]
        if found != 1:
            raise ValueError(f"{DOCUMENT.name} has {found} places for {marker}")
    return text


def _dump(data: bytes) -> str:
    zeros = re.search(rb"\x00{%d,}" % _FOLD, data)
    if zeros is None:
        return "\n".join(data[at : at + _LINE].hex(" ") for at in range(0, len(data), _LINE))
    rest = data[zeros.end() :]
    return f"{_dump(data[: zeros.start()])}\n({len(zeros[0])} times 00)" + (f"\n{_dump(rest)}" if rest else "")


def _folded(read: Any) -> Any:
    if isinstance(read, dict):
        return {key: _folded(item) for key, item in read.items()}
    zeros = isinstance(read, str) and re.fullmatch(r"0x(00){64,}", read)
    return f"({len(read) // 2 - 1} times 00)" if zeros else read


def main() -> int:
    """Add what is missing, draw the document; exit code 0."""
    rows = json.loads(GOLDEN.read_text()) if GOLDEN.exists() else {}
    for name, data in encoded().items():
        rows.setdefault(name, {"hex": data.hex(), "value": value(name, data)})
    GOLDEN.write_text(json.dumps(rows, indent=1, ensure_ascii=False) + "\n")
    DOCUMENT.write_text(document(DOCUMENT.read_text()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
