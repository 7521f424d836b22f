from __future__ import annotations

import errno
import stat
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography import x509

from dnms.disk import signing
from dnms.disk.site import LAYOUT, PARTS, Site, SiteError
from dnms.wire.messages import AGENT_NAME


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Site:
    return Site.create(tmp_path_factory.mktemp("made") / "site", "example")


@pytest.fixture
def copy(made: Site, tmp_path: Path) -> Path:
    """A site that a test may damage."""
    path = tmp_path / "site"
    path.mkdir()
    for file in made.path.iterdir():
        (path / file.name).write_bytes(file.read_bytes())
    return path


def complaint(call: Callable[[], object]) -> str:
    with pytest.raises(SiteError) as error:
        call()
    assert "\n" not in str(error.value)
    return str(error.value)


def test_what_was_made_is_loaded(made: Site) -> None:
    loaded = Site.load(made.path)
    assert (loaded.name, loaded.secret, loaded.path) == ("example", made.secret, made.path)
    assert len(loaded.secret) == 32
    assert loaded.bus_token == made.bus_token != loaded.api_token
    assert loaded.client_id(b"duid") == made.client_id(b"duid") != made.client_id(b"other")
    assert len(loaded.client_id(b"duid")) == 16


def test_who_signs_is_made_once_and_when_it_is_needed(copy: Path) -> None:
    """A directory of an older release has none."""
    assert not (copy / "evidence.key").exists()
    signer = Site.load(copy).signer()
    assert Site.load(copy).signer() == signer
    assert stat.S_IMODE((copy / "evidence.key").stat().st_mode) == 0o600
    (copy / "evidence.pem").unlink()  # as when it was interrupted
    again = Site.load(copy).signer()
    assert again != signer
    signing.check(
        b"said",
        again.sign(b"said"),
        certificate=again.certificate,
        root=(copy / "root.pem").read_bytes(),
        at=datetime.now(UTC),
    )


def test_two_sites_have_nothing_in_common(made: Site, tmp_path: Path) -> None:
    other = Site.create(tmp_path / "site", "example")
    assert other.secret != made.secret
    assert {other.bus_token, other.api_token}.isdisjoint({made.bus_token, made.api_token})
    assert other.root_certificate.read_bytes() != made.root_certificate.read_bytes()
    assert other.client_id(b"duid") != made.client_id(b"duid")


def test_nobody_else_reads_what_is_secret(made: Site) -> None:
    public = {"site.toml", "root.pem", "agent.pem"}
    modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in made.path.iterdir()}
    assert {name for name, mode in modes.items() if mode & 0o077} == public
    assert all(mode == 0o600 for name, mode in modes.items() if name not in public)
    assert stat.S_IMODE(made.path.stat().st_mode) == 0o700


def test_the_root_has_signed_for_the_agents_name(made: Site) -> None:
    root = x509.load_pem_x509_certificate(made.root_certificate.read_bytes())
    agent = x509.load_pem_x509_certificate(made.agent_certificate.read_bytes())
    agent.verify_directly_issued_by(root)
    names = agent.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == [AGENT_NAME]
    assert not agent.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert root.extensions.get_extension_for_class(x509.BasicConstraints).value.ca


@pytest.mark.parametrize("name", ["", "Example", "a b", "-a", "a-", "a.b", "a" * 33, "a\n"])
def test_a_name_that_is_none_is_refused(tmp_path: Path, name: str) -> None:
    assert "no site name" in complaint(lambda: Site.create(tmp_path / "site", name))
    assert not (tmp_path / "site").exists()


def test_a_site_is_not_made_over_another(copy: Path) -> None:
    before = {file.name: file.read_bytes() for file in copy.iterdir()}
    assert "holds a site already" in complaint(lambda: Site.create(copy, "other"))
    assert {file.name: file.read_bytes() for file in copy.iterdir()} == before


@pytest.mark.parametrize("lost", ["site.toml", "secret", "root.key"])
def test_what_is_left_of_a_site_is_kept_and_what_is_missing_is_named(copy: Path, lost: str) -> None:
    (copy / "log").mkdir()
    (copy / lost).unlink()
    before = {file.name: file.read_bytes() for file in copy.iterdir() if file.is_file()}
    if lost != "root.key":  # which only a new certificate needs
        assert f"lacks {lost}: restore it from a copy" in complaint(lambda: Site.load(copy))
    assert "nothing was changed" in complaint(lambda: Site.create(copy, "other"))
    assert {file.name: file.read_bytes() for file in copy.iterdir() if file.is_file()} == before


@pytest.mark.parametrize("part", PARTS)
def test_no_site_is_made_where_anything_of_one_is(tmp_path: Path, part: str) -> None:
    (tmp_path / part).symlink_to("nowhere")
    assert "nothing was changed" in complaint(lambda: Site.create(tmp_path, "example"))
    assert [each.name for each in tmp_path.iterdir()] == [part]


def test_a_creation_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, data: bytes, *, mode: int = 0o644) -> None:
        if path.name == "api.token":
            raise OSError(errno.ENOSPC, "No space left on device")
        path.write_bytes(data)

    monkeypatch.setattr("dnms.disk.site.atomic.write", full)
    assert "No space left" in complaint(lambda: Site.create(tmp_path / "site", "example"))
    assert not list((tmp_path / "site").iterdir())
    monkeypatch.undo()
    assert Site.create(tmp_path / "site", "example").name == "example"


def test_a_site_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert "cannot make the site" in complaint(lambda: Site.create(tmp_path / "file" / "site", "example"))


def test_no_site(tmp_path: Path) -> None:
    assert "`dnms init` makes a new one" in complaint(lambda: Site.load(tmp_path / "nowhere"))
    (tmp_path / "file").touch()
    assert "cannot read the site" in complaint(lambda: Site.load(tmp_path / "file"))


def test_a_site_of_a_newer_release(copy: Path) -> None:
    (copy / "site.toml").write_text(f'version = {LAYOUT + 1}\nname = "example"\nmore = true\n')
    assert "upgrade dnms" in complaint(lambda: Site.load(copy))


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        ("site.toml", b"", "lacks 'version'"),
        ("site.toml", b"version = 1\n", "lacks 'name'"),
        ("site.toml", b"version = = 1", "damaged"),
        ("site.toml", b"\xff\xfe", "damaged"),
        ("site.toml", b'version = "two"\nname = "example"\n', "version = 'two' in site.toml is no layout"),
        ("site.toml", b'version = 0\nname = "example"\n', "version = 0 in site.toml is no layout"),
        ("site.toml", b'version = -1\nname = "example"\n', "version = -1 in site.toml is no layout"),
        ("site.toml", b'version = true\nname = "example"\n', "version = True in site.toml is no layout"),
        ("site.toml", b"version = 1\nname = 7\n", "damaged"),
        ("site.toml", b'version = 1\nname = "a.>"\n', "no site name"),
        ("secret", b"", "0 bytes and not 32"),
        ("secret", b"00" * 31, "31 bytes and not 32"),
        ("secret", b"nonsense", "damaged"),
    ],
)
def test_a_damaged_site(copy: Path, file: str, content: bytes, said: str) -> None:
    (copy / file).write_bytes(content)
    assert said in complaint(lambda: Site.load(copy))


def test_a_missing_secret(copy: Path) -> None:
    (copy / "secret").unlink()
    assert "lacks secret: restore it from a copy" in complaint(lambda: Site.load(copy))


@pytest.mark.parametrize("content", [b"", b" \n", b"\xff"])
def test_a_token_that_is_empty_or_broken_lets_nobody_in(copy: Path, content: bytes) -> None:
    site = Site.load(copy)
    for file, read in (("bus.token", lambda: site.bus_token), ("api.token", lambda: site.api_token)):
        (copy / file).write_bytes(content)
        assert file in complaint(read)
        (copy / file).unlink()
        assert file in complaint(read)


def test_two_agents_of_one_name_on_one_machine(made: Site) -> None:
    with made.attended("lan", "one"), made.attended("lan", "two"), made.attended("dmz", "one"):
        said = complaint(made.attended("lan", "one").__enter__)
        assert "give one of the two another --name" in said
    with made.attended("lan", "one"):
        pass  # who was killed holds nothing
