"""Golden bytes: every event, request and form of a commit that was ever published, as files beside this one.

`make golden` runs this. It adds what is missing and never changes a file: the log keeps these bytes for ever.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgpack
import msgspec

from dnms.events import codec
from dnms.events.address import AddressAllocated
from dnms.events.commit import FORMAT, Commit, Decision
from dnms.events.node import NodeIdentified
from dnms.events.recorded import Personal, Recorded
from dnms.events.requests import REQUESTS, AllocateAddress, IdentifyNode, RenewAddress
from tests.unit.events.examples import full, least

FOLDER = Path(__file__).parent / "golden"

KINDS: tuple[type[Recorded], ...] = (*codec.EVENTS, *REQUESTS)


def examples(kind: type[Recorded]) -> list[Recorded]:
    """What stands in the file of one type."""
    return [full(kind), least(kind)]


def commits() -> list[Commit]:
    """What stands in the file of the commit's own form: an empty one, and one that has everything."""
    allocate = msgspec.structs.replace(full(AllocateAddress), offered=None)  # which came later
    allocated = msgspec.structs.replace(full(AddressAllocated), origin="")  # the same
    granted = Decision(request=allocate, at=1_750_000_000_000_001, entropy=bytes(range(8)), count=1)
    identified = Decision(request=full(IdentifyNode), at=1_750_000_000_000_002, first=1, count=1)
    refused = Decision(request=least(RenewAddress), at=1_750_000_000_000_003, first=2, refused="no-lease", times=300)
    return [
        Commit(id=bytes(16), time=0, predecessor=0, actor="operator/anna"),
        Commit(
            id=bytes(range(16)),
            time=1_750_000_000_000_003,
            predecessor=70_000,
            actor="agent/a1",
            plan=17,
            decisions=(granted, identified, refused),
            events=(allocated, full(NodeIdentified)),
            hash=bytes(range(32)),
            signature=bytes(range(64)),
        ),
    ]


def readable(value: Any) -> Any:
    """What the reference library decoded, as JSON: bytes as 0x…, an extension type as its number and bytes."""
    match value:
        case msgpack.ExtType(code=code, data=data):
            return {"extension": code, "bytes": f"0x{data.hex()}"}
        case bytes():
            return f"0x{value.hex()}"
        case list():
            return [readable(item) for item in value]
        case dict():
            return {key: readable(item) for key, item in value.items()}
        case _:
            return value


def from_readable(value: Any) -> Any:
    """The inverse, with personal values as such."""
    match value:
        case {"extension": Personal.EXTENSION, "bytes": text}:
            return Personal.from_payload(bytes.fromhex(text[2:]))
        case str() if value.startswith("0x"):
            return bytes.fromhex(value[2:])
        case list():
            return [from_readable(item) for item in value]
        case dict():
            return {key: from_readable(item) for key, item in value.items()}
        case _:
            return value


def wanted() -> Iterator[tuple[str, list[bytes]]]:
    """For each name and version of this release, the bytes of its examples."""
    yield f"commit.v{FORMAT}", [codec.encode(commit) for commit in commits()]
    for kind in KINDS:
        yield f"{kind.NAME}.v{kind.VERSION}", [codec.encoder.encode(example) for example in examples(kind)]


def published(stem: str) -> list[bytes]:
    """The golden bytes of one name and version, from all its files."""
    files = [FOLDER / f"{stem}.json", *FOLDER.glob(f"{stem}.*.json")]
    return [bytes.fromhex(e["hex"]) for file in files if file.exists() for e in json.loads(file.read_text())]


def add(stem: str, encoded: Sequence[bytes]) -> Path:
    """Write a new file: `<stem>.json`, or `<stem>.2.json` and so on where the type has gained optional fields."""
    path, number = FOLDER / f"{stem}.json", 1
    while path.exists():
        number += 1
        path = FOLDER / f"{stem}.{number}.json"
    rows = [{"hex": data.hex(), "value": readable(msgpack.unpackb(data))} for data in encoded]
    path.write_text(json.dumps(rows, indent=1, ensure_ascii=False) + "\n")
    return path


def main() -> int:
    """Add the files that are missing; exit code 0."""
    FOLDER.mkdir(exist_ok=True)
    for stem, encoded in wanted():
        known = published(stem)
        if missing := [data for data in encoded if data not in known]:
            print(add(stem, missing).relative_to(FOLDER.parent))
    return 0


if __name__ == "__main__":
    sys.exit(main())
