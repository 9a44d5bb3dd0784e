"""Fixtures of several tests."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from bench import charts
from bench.charts import Panel


@pytest.fixture(scope="module")
def prompts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three prompts: two measured, one for tuning."""
    path = tmp_path_factory.mktemp("prompts") / "prompts.jsonl"
    path.write_text("".join(json.dumps({"id": f"p{n}", "prompt": f"text {n}"}) + "\n" for n in range(3)))
    return path


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
