"""The files that docker compose builds from, as far as they can be read without an engine."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_both_images_share_every_layer() -> None:
    """Only the first comment and what follows USER differ, so torch is built and stored once."""
    heads = []
    for role in ("cloud", "edge"):
        first, *lines = (ROOT / role / "Dockerfile").read_text().splitlines()
        heads.append(lines[: lines.index("USER 10001:10001") + 1])
        assert first.startswith("# The")

    assert heads[0] == heads[1]


def test_the_compose_file_and_the_example_name_the_same_variables() -> None:
    """Commented or not; `python -m deploy` compares the values."""
    compose = (ROOT / "docker-compose.yml").read_text()
    used = {part.partition(":-")[0] for part in compose.split("${")[1:]}
    lines = (ROOT / ".env.example").read_text().splitlines()
    listed = {line.removeprefix("# ").partition("=")[0] for line in lines if "=" in line}

    assert used <= listed
