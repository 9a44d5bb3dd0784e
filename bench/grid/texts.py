"""What is asked for: prompts, and one text of a method as a command to the client at the edge."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.grid.cells import Cell, Plan
from bench.grid.client import thinwire_request_to_dict
from bench.grid.methods import Method, Parameters
from bench.peers.messages import PeerRequest
from thinwire.common.config import SamplingParameters
from thinwire.common.errors import ConfigError
from thinwire.common.session.generation import GenerationRequest


@dataclass(frozen=True, slots=True)
class Prompt:
    """One line of the prompt file."""

    id: str
    text: str


def read_prompts(path: Path, plan: Plan) -> tuple[list[Prompt], list[Prompt]]:
    """
    Prompts to measure with (the file's head) and to tune with (its tail).

    Raises:
        ConfigError: the file cannot be read, or holds too few.
    """
    try:
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
        prompts = [Prompt(str(row.get("id", f"line {n}")), row["prompt"]) for n, row in enumerate(rows, 1)]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{path} cannot be read as lines of {{'id', 'prompt'}} ({error!r}).") from None
    needed = plan.prompts + plan.tuning_prompts
    if len(prompts) < needed:
        raise ConfigError(
            f"{path} holds {len(prompts)} prompts; expected at least {needed}: "
            f"{plan.prompts} measured and {plan.tuning_prompts} for tuning."
        )
    return prompts[: plan.prompts], prompts[len(prompts) - plan.tuning_prompts :]


def command_for(
    cell: Cell, method: Method, parameters: Parameters, prompt: Prompt, seed: int, tokens: int
) -> dict[str, Any]:
    """The same text length, sampling and seed whatever the method; end-of-text is ignored."""
    length = int(parameters.get("draft_length", 0))
    if method.is_peer:
        asked = PeerRequest(
            way=method.way,
            prompt=prompt.text,
            max_tokens=tokens,
            temperature=cell.temperature,
            seed=seed,
            draft_length=length,
        )
        return {"do": "peer", "request": json.loads(asked.to_bytes())}
    request = GenerationRequest(
        prompt=prompt.text,
        seed=seed,
        scheme=method.scheme(cell.temperature, parameters),
        sampling=SamplingParameters(temperature=cell.temperature),
        max_tokens=tokens,
        draft_length=length,
        uplink_budget_bits=0,
        min_block_acceptance=0.0,
        stop=(),
        ignore_eos=True,
    )
    return {"do": "thinwire", "request": thinwire_request_to_dict(request)}
