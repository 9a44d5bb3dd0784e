"""The ways to make the tokens in the cloud; all run in the models' one thread."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import count
from types import SimpleNamespace
from typing import Any

import torch

from bench.peers.messages import ASSISTED, OWN, PeerRequest
from thinwire.common.config import SamplingParameters
from thinwire.common.language_model import LanguageModel
from thinwire.common.law.distributions import warp
from thinwire.common.law.random_streams import KeyedDraws, Stream
from thinwire.common.session.prompt import check_prompt

PREFILL_CHUNK_TOKENS = 256
"""As the cloud daemon feeds a prompt."""
OWN_SCHEDULE_TOKENS, OWN_SCHEDULE_CONFIDENCE = 20, 0.4
"""transformers' own defaults of assisted generation: tokens a round at most, and when to stop early."""

Emit = Callable[[int, list[int]], None]
"""(number of a target pass from 1, the token ids it gave); may raise to end the text."""


def make_texts(
    target: LanguageModel, draft: LanguageModel, requests: Sequence[PeerRequest], emit: Emit
) -> None:
    """
    Make one text, or those of a batch together.

    Args:
        target, draft: with one vocabulary; end-of-text ignored (`ignore_end_of_text`).
        requests: one, or those of a batch; what they ask for is the same but for the prompt.
        emit: called after each target pass; of a batch with one token a text.

    Raises:
        ConfigError: a prompt cannot be continued.
    """
    first = requests[0]
    room = target.context_length - first.max_tokens
    prompts = [target.vocabulary.encode(request.prompt) for request in requests]
    for prompt in prompts:
        check_prompt(tuple(prompt), target.vocabulary_size, room)
    if first.way == OWN:
        _own(target, first, prompts[0], emit)
    else:
        generate(target.module, draft.module if first.way == ASSISTED else None, prompts, first, emit)


def _own(target: LanguageModel, request: PeerRequest, prompt_ids: list[int], emit: Emit) -> None:
    """The target's own tokens, drawn as the cloud daemon draws a bonus token: same seed, same text."""
    sampling = SamplingParameters(temperature=request.temperature)
    draws = KeyedDraws(request.seed)
    sequence = target.open_sequence()
    try:
        for start in range(0, len(prompt_ids), PREFILL_CHUNK_TOKENS):
            rows = sequence.extend(prompt_ids[start : start + PREFILL_CHUNK_TOKENS], logit_rows=1)
        for index in range(request.max_tokens):
            token_id, _ = draws.race(Stream.BONUS, len(prompt_ids) + index, warp(rows[0], sampling))
            emit(index + 1, [token_id])
            if index + 1 < request.max_tokens:
                rows = sequence.extend([token_id], logit_rows=1)
    finally:
        sequence.close()


def ignore_end_of_text(module: Any) -> None:
    """Have transformers generate all the tokens that are asked for."""
    module.generation_config.eos_token_id = None
    module.config.eos_token_id = None


def generate(
    target: Any, draft: Any, prompts: Sequence[Sequence[int]], request: PeerRequest, emit: Emit | None = None
) -> int:
    """
    transformers' `generate`, prompts of several texts padded on the left.

    Args:
        target: its module.
        draft: its module, for assisted generation of one text; else None.
        prompts: token ids, one a text.
        request: length, temperature, seed and draft length of all of them.
        emit: see `Emit`; None where nobody listens.

    Returns:
        the tokens of each text.
    """
    extra: dict[str, Any] = {"do_sample": request.temperature > 0}
    if draft is not None:
        settings = draft.generation_config
        settings.num_assistant_tokens = request.draft_length or OWN_SCHEDULE_TOKENS
        settings.num_assistant_tokens_schedule = "constant"
        settings.assistant_confidence_threshold = 0.0 if request.draft_length else OWN_SCHEDULE_CONFIDENCE
        extra["assistant_model"] = draft
    if request.temperature > 0:
        extra |= {"temperature": request.temperature, "top_k": 0, "top_p": 1.0}
    if emit is not None:
        extra["streamer"] = _pass_streamer(emit)
    longest = max(map(len, prompts))
    ids = torch.tensor([[0] * (longest - len(prompt)) + list(prompt) for prompt in prompts])
    mask = torch.tensor([[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts])
    torch.manual_seed(request.seed)
    with torch.inference_mode():
        made = target.generate(
            input_ids=ids, attention_mask=mask, max_new_tokens=request.max_tokens, pad_token_id=0, **extra
        )
    return int(made.shape[1]) - longest


def _pass_streamer(emit: Emit) -> Any:
    """
    Hands tokens on as `generate` has them, one target pass a call.

    transformers' own text streamers hold a token back until its word is complete; this one does not, which is
    in the peer's favour.
    """
    calls = count()

    def put(value: torch.Tensor) -> None:
        if target_pass := next(calls):  # the prompt comes first
            emit(target_pass, value.flatten().tolist())

    return SimpleNamespace(put=put, end=lambda: None)
