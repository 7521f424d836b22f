"""A site's directory: its name, its secrets, its certificates, and where the log and the views lie.

site.toml          version of this layout, name of the site
secret             32 bytes in hex: keys client ids and address hashes; without it the log's clients have no names
root.pem, root.key the site's root certificate; nodes are given root.pem
agent.pem, .key    what Subnet Agents show to nodes
bus.token          lets writers onto the bus        api.token   lets callers into the API
log/               JetStream's data                 views.db    views, disposable
subscribers/       by which log each subscriber of this machine acted last
"""

from __future__ import annotations

import hashlib
import re
import secrets
import tomllib
from pathlib import Path

from dnms.disk import atomic
from dnms.disk.certificates import issue

LAYOUT = 1
"""The version of this directory's layout."""

_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?")


class SiteError(Exception):
    """The site's directory cannot be made or read; one line that says what to do."""


class Site:
    """The opened directory of a site."""

    def __init__(self, path: Path, name: str, secret: bytes) -> None:
        self.path = path
        self.name = name
        self.secret = secret
        self.root_certificate = path / "root.pem"
        self.agent_certificate = path / "agent.pem"
        self.agent_key = path / "agent.key"
        self.log_directory = path / "log"
        self.views = path / "views.db"

    @classmethod
    def create(cls, path: Path, name: str) -> Site:
        """Make a new site's directory with secrets of its own; SiteError if there is one, or if it cannot be made."""
        if not _NAME.fullmatch(name):
            raise SiteError(f"{name!r} is no site name: use up to 32 lower-case letters, digits and hyphens")
        try:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            if (path / "site.toml").exists():
                raise SiteError(f"{path} holds a site already; nothing was changed")
            root, agent = issue(name)
            atomic.write(path / "secret", secrets.token_hex(32).encode(), mode=0o600)
            atomic.write(path / "root.pem", root.certificate)
            atomic.write(path / "root.key", root.key, mode=0o600)
            atomic.write(path / "agent.pem", agent.certificate)
            atomic.write(path / "agent.key", agent.key, mode=0o600)
            atomic.write(path / "bus.token", secrets.token_urlsafe(32).encode(), mode=0o600)
            atomic.write(path / "api.token", secrets.token_urlsafe(32).encode(), mode=0o600)
            # Last, so that an interrupted creation leaves no half site that looks like one.
            atomic.write(path / "site.toml", f'version = {LAYOUT}\nname = "{name}"\n'.encode())
        except OSError as error:
            raise SiteError(f"cannot make the site in {path}: {error.strerror or error}") from error
        return cls.load(path)

    @classmethod
    def load(cls, path: Path) -> Site:
        """Open a site's directory; SiteError if there is none, or if a newer release made it."""
        try:
            settings = tomllib.loads((path / "site.toml").read_text())
            version, name = settings["version"], settings["name"]
            if version > LAYOUT:
                raise SiteError(f"{path} was made by a newer release (layout {version}, known {LAYOUT}): upgrade dnms")
            if not _NAME.fullmatch(name):
                raise ValueError(f"{name!r} in site.toml is no site name")
            secret = bytes.fromhex((path / "secret").read_text().strip())
            if len(secret) != 32:
                raise ValueError(f"the secret has {len(secret)} bytes and not 32")
        except FileNotFoundError as error:
            raise SiteError(f"{path} holds no site ({error.filename} is missing): run `dnms init`") from error
        except OSError as error:
            raise SiteError(f"cannot read the site in {path}: {error.strerror or error}") from error
        except KeyError as error:
            raise SiteError(
                f"the site in {path} is damaged: site.toml lacks {error}; restore it from a copy"
            ) from error
        except (ValueError, TypeError) as error:
            raise SiteError(f"the site in {path} is damaged: {error}; restore it from a copy") from error
        return cls(path, name, secret)

    @property
    def bus_token(self) -> str:
        """What the bus asks its clients for. SiteError."""
        return self._read("bus.token")

    @property
    def api_token(self) -> str:
        """What the API asks its callers for. SiteError."""
        return self._read("api.token")

    def client_id(self, duid: bytes) -> bytes:
        """The 16 bytes that stand for a client in the log: a hash of its DUID, keyed with the site's secret."""
        return hashlib.blake2b(duid, key=self.secret, digest_size=16, person=b"dnms-client").digest()

    def _read(self, name: str) -> str:
        try:
            text = (self.path / name).read_text().strip()
        except OSError as error:
            raise SiteError(f"cannot read {self.path / name}: {error.strerror or error}") from error
        except ValueError as error:
            raise SiteError(f"{self.path / name} is damaged: {error}; restore it from a copy") from error
        if not text:  # which would let in whoever asks for nothing
            raise SiteError(f"{self.path / name} is empty; restore it from a copy")
        return text
