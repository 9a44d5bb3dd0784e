"""All figures of the paper, from lines alone."""

from __future__ import annotations

from bench.paper.claims import measured
from bench.paper.data import Data
from bench.paper.frontier import frontier
from bench.paper.link_figures import figure_2, figure_4, figure_5
from bench.paper.step_figures import theorem_1, theorem_2

LINK_FIGURES = {
    "paper-figure-2.svg": figure_2,
    "paper-figure-4.svg": figure_4,
    "paper-figure-5.svg": figure_5,
}
STEP_FIGURES = {
    "paper-theorem-1.svg": theorem_1,
    "paper-theorem-2.svg": theorem_2,
    "paper-frontier.svg": frontier,
}


def figures(data: Data) -> dict[str, str]:
    """File name → SVG, of those figures that there are lines for."""
    drawn = {name: draw(data) for name, draw in LINK_FIGURES.items()} if measured(data.texts) else {}
    if data.steps:
        drawn |= {name: draw(data) for name, draw in STEP_FIGURES.items()}
    return drawn
