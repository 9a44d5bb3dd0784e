"""What the one-shot service of docker-compose.yml makes, read as the daemons read it."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from deploy.credentials import main
from thinwire.common.door.security import read_authority, read_key_pair, read_token
from thinwire.common.door.tenants import Access


def test_both_daemons_and_the_client_find_what_they_need(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Pairs of one authority, and for either daemon a token of its own."""
    assert main(tmp_path) == 0
    said = capsys.readouterr()

    assert read_authority(str(tmp_path / "ca.pem")) is not None
    for role, other in (("cloud", "edge"), ("edge", "cloud")):
        assert (
            read_key_pair(str(tmp_path / f"{role}.pem"), str(tmp_path / f"{role}.key"), flags="") is not None
        )
        token = read_token(str(tmp_path / f"{role}-token"))
        assert Access(str(tmp_path / f"{role}-tokens.json")).authenticate(token).tenant
        assert token != read_token(str(tmp_path / f"{other}-token"))
        assert token not in said.out + said.err
        for secret in (f"{role}.key", f"{role}-token", f"{role}-tokens.json"):
            assert stat.S_IMODE((tmp_path / secret).stat().st_mode) == 0o600


def test_a_second_run_changes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`docker compose up` again, on the volume of the first."""
    assert main(tmp_path) == 0
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    capsys.readouterr()

    assert main(tmp_path) == 0
    assert capsys.readouterr().out == ""
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_set_that_is_not_whole_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing is overwritten to mend it."""
    assert main(tmp_path) == 0
    (tmp_path / "ca.pem").unlink()

    assert main(tmp_path) == 1
    assert "already holds cloud.pem" in capsys.readouterr().err
