"""The transcripts say what happens; `python -m tests.transcripts --rewrite` writes them anew."""

from __future__ import annotations

from pathlib import Path

import pytest

from transcripts.story import SHOWN_ON_PAGE, STORIES, page_part

FOLDER = Path(__file__).parent


@pytest.mark.parametrize("name", STORIES)
def test_a_transcript_is_what_happens(name: str) -> None:
    """Each message, its bytes and its fields, at its time; a difference is a change of the protocol."""
    assert (FOLDER / f"{name}.txt").read_text(encoding="utf-8") == STORIES[name].told()


def test_every_transcript_has_its_story() -> None:
    """A story left out would leave its file behind."""
    assert {path.stem for path in FOLDER.glob("*.txt")} == set(STORIES)


def test_the_page_shows_what_happens() -> None:
    """docs/protocol.md has the free-running conversation as it is."""
    assert page_part() in SHOWN_ON_PAGE.read_text(encoding="utf-8")
