"""The files that docker compose builds from, as far as they can be read without an engine."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_both_daemons_share_every_layer() -> None:
    """Their targets add a port and a command only, so torch is built and stored once."""
    lines = (ROOT / "deploy" / "Dockerfile").read_text().splitlines()
    for role in ("cloud", "edge"):
        target = lines[lines.index(f"FROM daemon AS {role}") + 1 :]

        assert [line.split()[0] for line in target[: target.index("")]] == ["EXPOSE", "CMD"]


def test_the_compose_file_and_the_example_name_the_same_variables() -> None:
    """Commented or not; `python -m tests.compose` compares the values."""
    compose = (ROOT / "docker-compose.yml").read_text()
    used = {part.partition(":-")[0] for part in compose.split("${")[1:]}
    lines = (ROOT / ".env.example").read_text().splitlines()
    listed = {line.removeprefix("# ").partition("=")[0] for line in lines if "=" in line}

    assert used <= listed
