"""The bundled pair, and prompts for it that nothing was trained on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from thinwire.common import demo_pair

if TYPE_CHECKING:
    from thinwire.common.language_model import LanguageModel


def read_prompts() -> list[str]:
    """The texts of the prompts, in their order."""
    lines = (Path(__file__).parent / "prompts.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line)["prompt"] for line in lines]


def load_pair() -> tuple[LanguageModel, LanguageModel]:
    """Target and draft, as the daemons load them."""
    from thinwire.common.language_model import load_language_model as load  # imports torch

    return load(str(demo_pair.target_path())), load(str(demo_pair.draft_path()))
