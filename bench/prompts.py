"""The prompts of the bundled pair, which nothing was trained on."""

from __future__ import annotations

import json
from pathlib import Path

PROMPTS = Path(__file__).parent / "prompts.jsonl"


def read_prompts(path: Path = PROMPTS) -> list[str]:
    """The texts of the prompts, in their order."""
    return [json.loads(line)["prompt"] for line in path.read_text(encoding="utf-8").splitlines()]
