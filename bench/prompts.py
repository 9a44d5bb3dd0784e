"""The prompts of the bundled pair, which nothing was trained on, and a text of one as a request."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from thinwire.common.config import (
    GenerationParameters,
    SamplingParameters,
    SchemeParameters,
    default_scheme,
)
from thinwire.edge.client import GenerationRequest

PROMPTS = Path(__file__).parent / "prompts.jsonl"
DEFAULTS = GenerationParameters(seed=0)


def read_prompts(path: Path = PROMPTS) -> list[str]:
    """The texts of the prompts, in their order."""
    return [json.loads(line)["prompt"] for line in path.read_text(encoding="utf-8").splitlines()]


def request(
    prompt: str,
    *,
    seed: int,
    tokens: int,
    temperature: float = 1.0,
    scheme: SchemeParameters | None = None,
    draft_length: int = DEFAULTS.draft_length,
    min_block_acceptance: float = DEFAULTS.min_block_acceptance,
) -> GenerationRequest:
    """A text of `tokens` tokens, end-of-text ignored; what is not said is at its default."""
    values: dict[str, Any] = {"uplink_budget_bits": 0, "stop": ()}
    return GenerationRequest(
        prompt=prompt,
        seed=seed,
        scheme=scheme or default_scheme(temperature),
        sampling=SamplingParameters(temperature=temperature),
        max_tokens=tokens,
        draft_length=draft_length,
        min_block_acceptance=min_block_acceptance,
        ignore_eos=True,
        **values,
    )
