"""The model card that is shipped says what the program writes."""

from __future__ import annotations

import pytest

from training.card import OUT, goals


def row(name: str) -> list[str]:
    """Cells of a row of the shipped card, behind its name."""
    line = next(line for line in OUT.read_text().splitlines() if line.startswith(f"| {name} |"))
    return [cell.strip() for cell in line.split("|")[2:-1]]


def test_the_shipped_card_holds_its_figures_against_the_projects_goals() -> None:
    """One sentence, of the figures in the card's own tables."""
    bits_per_byte = {name: float(row(name)[4]) for name in ("target", "draft")}

    assert goals(bits_per_byte, float(row("acceptance rate")[2])) in OUT.read_text().splitlines()


@pytest.mark.parametrize(
    ("target", "draft", "acceptance_rate", "words"),
    [
        (1.33, 1.65, 0.6, "this pair keeps all three."),
        (1.34, 1.65, 0.6, "this pair misses the bits per byte of the target."),
        (1.33, 1.66, 0.59, "this pair misses the bits per byte of the draft and the acceptance rate."),
    ],
)
def test_a_goal_that_was_missed_is_named(
    target: float, draft: float, acceptance_rate: float, words: str
) -> None:
    """A figure at the bound is within it."""
    assert goals({"target": target, "draft": draft}, acceptance_rate).endswith(words)
