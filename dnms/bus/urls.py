"""Where a bus is, as people write it."""

from __future__ import annotations

from urllib.parse import urlsplit

SCHEMES = ("nats", "tls")


def checked(text: str) -> str:
    """`nats://HOST:PORT`, several servers of one bus with commas between them; ValueError for anything else."""
    for url in text.split(","):
        parts = urlsplit(url)
        try:
            right = parts.scheme in SCHEMES and bool(parts.hostname) and parts.port != 0
        except ValueError:  # of the port
            right = False
        if not right or parts.path.strip("/") or parts.query or parts.fragment or not url.isprintable() or " " in url:
            raise ValueError(f"{url!r} is no bus; expected nats://HOST:PORT")
    return text
