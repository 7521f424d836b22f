"""A site's directory: its name, its secrets, its certificates, and where the log and the views lie.

site.toml          version of this layout, name of the site
secret             32 bytes in hex: keys client ids and address hashes; without it the log's clients have no names
root.pem, root.key the site's root certificate; nodes are given root.pem
agent.pem, .key    what Subnet Agents show to nodes
evidence.pem, .key what signs evidence; made when it is first needed
bus.token          lets writers onto the bus        api.token   lets callers into the API
log/               JetStream's data                 views.db    views, disposable
subscribers/       by which log each subscriber of this machine acted last
"""

from __future__ import annotations

import datetime
import fcntl
import hashlib
import os
import re
import secrets
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from dnms.disk import atomic
from dnms.disk.certificates import Issued, issue, issue_relay, issue_signer
from dnms.disk.signing import Signer

LAYOUT = 1
"""The version of this directory's layout."""

PARTS = (
    "site.toml",
    "secret",
    "root.pem",
    "root.key",
    "agent.pem",
    "agent.key",
    "evidence.pem",
    "evidence.key",
    "bus.token",
    "api.token",
    "log",
    "views.db",
)
"""What a site's directory can hold. Where one of these is, there is or was a site, and no other is made over it: a
secret that is replaced takes the names of all clients in the log with it."""

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
        made: list[Path] = []
        try:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            if found := _parts(path):
                raise SiteError(_why_not_over(path, found))
            root, agent = issue(name)
            for part, content, mode in (
                ("secret", secrets.token_hex(32).encode(), 0o600),
                ("root.pem", root.certificate, 0o644),
                ("root.key", root.key, 0o600),
                ("agent.pem", agent.certificate, 0o644),
                ("agent.key", agent.key, 0o600),
                ("bus.token", secrets.token_urlsafe(32).encode(), 0o600),
                ("api.token", secrets.token_urlsafe(32).encode(), 0o600),
                # Last, so that an interrupted creation leaves no half site that looks like one.
                ("site.toml", f'version = {LAYOUT}\nname = "{name}"\n'.encode(), 0o644),
            ):
                made.append(path / part)
                atomic.write(path / part, content, mode=mode)
        except OSError as error:
            for file in made:  # all of it is from this call, and nobody has used it yet
                with suppress(OSError):
                    file.unlink(missing_ok=True)
            raise SiteError(f"cannot make the site in {path}: {error.strerror or error}") from error
        return cls.load(path)

    @classmethod
    def load(cls, path: Path) -> Site:
        """Open a site's directory; SiteError if there is none, or if a newer release made it."""
        try:
            settings = tomllib.loads((path / "site.toml").read_text())
            version, name = settings["version"], settings["name"]
            if type(version) is not int or version < 1:  # True is an int to Python
                raise ValueError(f"version = {version!r} in site.toml is no layout, known is {LAYOUT}")
            if version > LAYOUT:
                raise SiteError(f"{path} was made by a newer release (layout {version}, known {LAYOUT}): upgrade dnms")
            if not _NAME.fullmatch(name):
                raise ValueError(f"{name!r} in site.toml is no site name")
            secret = bytes.fromhex((path / "secret").read_text().strip())
            if len(secret) != 32:
                raise ValueError(f"the secret has {len(secret)} bytes and not 32")
        except FileNotFoundError as error:
            if not _parts(path):
                text = f"{path} holds no site: copy the site's directory there, or say where it is"
                raise SiteError(f"{text}; `dnms init` makes a new one") from error
            raise SiteError(f"the site in {path} lacks {Path(error.filename).name}: restore it from a copy") from error
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

    def signer(self) -> Signer:
        """Who signs what the site says; made where the directory has none yet, as of an older release. SiteError."""
        certificate, key = self.path / "evidence.pem", self.path / "evidence.key"
        with self._signing():
            if not certificate.exists():  # written last: an interrupted making is begun anew
                made = issue_signer(self._root())
                atomic.write(key, made.key, mode=0o600)
                atomic.write(certificate, made.certificate)
            return Signer(key.read_bytes(), certificate.read_bytes())

    def issue_relay(self, name: str, *, at: datetime.datetime) -> Issued:
        """A key and a certificate for a new relay of this name; the directory keeps neither. SiteError."""
        with self._signing():
            return issue_relay(self._root(), name, at=at)

    def _root(self) -> Issued:
        return Issued(self.root_certificate.read_bytes(), (self.path / "root.key").read_bytes())

    @contextmanager
    def _signing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise SiteError(
                f"cannot sign for the site in {self.path}: {error.filename}: {error.strerror or error}"
            ) from error
        except ValueError as error:
            raise SiteError(f"the root of the site in {self.path} is damaged: {error}") from error

    @contextmanager
    def attended(self, subnet: str, agent: str) -> Iterator[None]:
        """Be the only Subnet Agent of this name on a subnet meanwhile, among those that share this directory.

        SiteError if there is another. Of those elsewhere, and of a directory that cannot be written, the log tells.
        """
        try:
            lock = (self.path / f"lock.{subnet}.{agent}").open("w")
        except OSError:
            yield
            return
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise SiteError(
                    f"a Subnet Agent with the name {agent!r} serves subnet {subnet!r} on this machine already: "
                    "give one of the two another --name"
                ) from error
            yield

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


def _parts(path: Path) -> list[str]:
    """What of a site is there; a link to nowhere is there too."""
    return [part for part in PARTS if os.path.lexists(path / part)]


def _why_not_over(path: Path, found: list[str]) -> str:
    if "site.toml" in found:
        return f"{path} holds a site already; nothing was changed"
    return (
        f"{path} holds {', '.join(found)} of a site that lacks its site.toml; nothing was changed: restore it from a "
        "copy, or remove all of these if they are of an init that was interrupted"
    )
