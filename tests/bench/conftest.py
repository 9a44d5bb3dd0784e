"""Fixtures of several tests."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from bench import charts
from bench.charts import Panel


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Sequence[Panel]]:
    """The panels of each figure that is drawn meanwhile; they are drawn all the same."""
    figures: list[Sequence[Panel]] = []
    draw = charts.draw

    def kept(title: str, panels: Sequence[Panel], **options: Any) -> str:
        figures.append(panels)
        return draw(title, panels, **options)

    monkeypatch.setattr(charts, "draw", kept)
    return figures
