"""A certificate that nobody would take is refused at the start, and one that soon will be is told of."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from thinwire.cloud.certificates import make_authority, make_pair
from thinwire.cloud.cli import main as cloud_main
from thinwire.common.daemon.exit_codes import ExitCode
from thinwire.common.door.security import ClientSecurity, KeyPair, read_key_pair
from thinwire.common.errors import ConfigError
from thinwire.edge.cli import main as edge_main

NOW = datetime(2026, 11, 28, 12, 0, tzinfo=UTC)


def files(folder: Path, *, made_at: datetime, days: int) -> tuple[str, str]:
    """A pair in two files, valid from an hour before `made_at`."""
    pair = make_pair(make_authority(now=made_at), "cloud", ("localhost",), now=made_at, days=days)
    paths = folder / "cloud.pem", folder / "cloud.key"
    for path, content in zip(paths, pair, strict=True):
        path.write_bytes(content)
    return str(paths[0]), str(paths[1])


def read(folder: Path, *, made_at: datetime = NOW, days: int, now: datetime = NOW) -> KeyPair:
    """Such a pair as a command line reads it."""
    pair = read_key_pair(*files(folder, made_at=made_at, days=days), flags="both", now=now)
    assert pair is not None
    return pair


@pytest.mark.parametrize(
    ("main", "arguments"),
    [
        (cloud_main, ["serve", "--tls-cert", "{0}", "--tls-key", "{1}"]),
        (edge_main, ["edge", "--tls-cert", "{0}", "--tls-key", "{1}"]),
        (edge_main, ["edge", "--cloud-cert", "{0}", "--cloud-key", "{1}"]),
        (edge_main, ["generate", "a", "--cert", "{0}", "--key", "{1}"]),
    ],
)
def test_an_expired_certificate_is_exit_code_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], main: object, arguments: list[str]
) -> None:
    """At either daemon, for either direction, and at a client; the sentence has both dates."""
    yesterday = datetime.now(UTC) - timedelta(days=1)
    paths = files(tmp_path, made_at=yesterday - timedelta(days=9), days=9)

    assert main([argument.format(*paths) for argument in arguments]) == ExitCode.USAGE  # type: ignore[operator]
    said = capsys.readouterr().err
    assert f"cloud.pem' expired at {yesterday:%Y-%m-%d %H:%M} UTC and it is " in said
    assert "expected one in force" in said


def test_a_certificate_that_is_not_valid_yet_is_refused(tmp_path: Path) -> None:
    """The machine's clock may be what is wrong."""
    with pytest.raises(ConfigError) as refused:
        read(tmp_path, made_at=NOW + timedelta(days=2), days=9)

    assert (
        "is valid from 2026-11-30 11:00 UTC and it is 2026-11-28 12:00 UTC; expected one in force, or a clock"
        in str(refused.value)
    )


def test_a_chain_ends_with_the_first_of_its_certificates(tmp_path: Path) -> None:
    """Whoever checks it checks all of them."""
    long, short = tmp_path / "long", tmp_path / "short"
    long.mkdir()
    short.mkdir()
    certificate, key = files(long, made_at=NOW, days=300)
    other, _ = files(short, made_at=NOW, days=3)
    with open(certificate, "ab") as file:
        file.write(Path(other).read_bytes())
    pair = read_key_pair(certificate, key, flags="both", now=NOW)

    assert pair is not None
    assert pair.expires_at == NOW + timedelta(days=3)


@pytest.mark.parametrize(("days", "warns"), [(300, False), (15, False), (14, True), (1, True)])
def test_a_certificate_that_soon_expires_is_warned_of(tmp_path: Path, days: int, warns: bool) -> None:
    """From 14 days before."""
    warning = read(tmp_path, days=days).expiry_warning(NOW)

    assert (warning is not None) == warns
    if warning is not None:
        assert f"expires at {NOW + timedelta(days=days):%Y-%m-%d %H:%M} UTC" in warning
        assert "cloud.pem" in warning


def test_what_an_edge_shows_its_cloud_is_warned_of_too(tmp_path: Path) -> None:
    """Beside its listener's."""
    now = datetime.now(UTC)
    (warning,) = ClientSecurity(key_pair=read(tmp_path, made_at=now, days=2, now=now)).warnings("cloud:7071")

    assert "expires at" in warning


def test_a_daemon_warns_when_it_starts(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Here one that then finds no model."""
    certificate, key = files(tmp_path, made_at=datetime.now(UTC), days=3)
    arguments = ["serve", "--listen", "127.0.0.1:0", "--model", str(tmp_path), "--log-format", "text"]

    assert cloud_main([*arguments, "--tls-cert", certificate, "--tls-key", key]) == ExitCode.MODEL
    assert "thinwire-cloud: WARNING: the certificate" in capfd.readouterr().err
