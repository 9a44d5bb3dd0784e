"""The three ways to make the tokens in the cloud; all run in the models' one thread."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from transformers.generation.streamers import BaseStreamer

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

Emit = Callable[[int, int], None]
"""(token id, number of the target pass it came from, from 1); may raise to end the text."""


class Ways:
    """
    The models and the ways.

    Args:
        target, draft: with one vocabulary.
    """

    def __init__(self, target: LanguageModel, draft: LanguageModel) -> None:
        self._target = target
        self._modules = target.module, draft.module
        for module in self._modules:
            module.generation_config.eos_token_id = None  # end-of-text is ignored everywhere
            module.config.eos_token_id = None

    def run(self, request: PeerRequest, emit: Emit) -> None:
        """
        Make one text.

        Raises:
            ConfigError: the prompt cannot be continued.
        """
        prompt_ids = self._target.vocabulary.encode(request.prompt)
        room = self._target.context_length - request.max_tokens
        check_prompt(tuple(prompt_ids), self._target.vocabulary_size, room)
        if request.way == OWN:
            self._own(request, prompt_ids, emit)
        else:
            self._transformers(request, prompt_ids, emit)

    def _own(self, request: PeerRequest, prompt_ids: list[int], emit: Emit) -> None:
        """The target's own tokens, drawn as the cloud daemon draws a bonus token: same seed, same text."""
        sampling = SamplingParameters(temperature=request.temperature)
        draws = KeyedDraws(request.seed)
        sequence = self._target.open_sequence()
        try:
            for start in range(0, len(prompt_ids), PREFILL_CHUNK_TOKENS):
                rows = sequence.extend(prompt_ids[start : start + PREFILL_CHUNK_TOKENS], logit_rows=1)
            for index in range(request.max_tokens):
                position = len(prompt_ids) + index
                token_id, _ = draws.race(Stream.BONUS, position, warp(rows[0], sampling))
                emit(token_id, index + 1)
                if index + 1 < request.max_tokens:
                    rows = sequence.extend([token_id], logit_rows=1)
        finally:
            sequence.close()

    def _transformers(self, request: PeerRequest, prompt_ids: list[int], emit: Emit) -> None:
        """transformers' `generate`, assisted or not, with our streamer."""
        target, draft = self._modules
        extra: dict[str, Any] = {}
        if request.way == ASSISTED:
            settings = draft.generation_config
            settings.num_assistant_tokens = request.draft_length or OWN_SCHEDULE_TOKENS
            settings.num_assistant_tokens_schedule = "constant"
            settings.assistant_confidence_threshold = 0.0 if request.draft_length else OWN_SCHEDULE_CONFIDENCE
            extra["assistant_model"] = draft
        if request.temperature > 0:
            extra |= {"do_sample": True, "temperature": request.temperature, "top_k": 0, "top_p": 1.0}
        else:
            extra["do_sample"] = False
        torch.manual_seed(request.seed)
        ids = torch.tensor([prompt_ids], dtype=torch.long)
        with torch.inference_mode():
            target.generate(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=request.max_tokens,
                pad_token_id=0,
                streamer=_TokenStreamer(emit),
                **extra,
            )


class _TokenStreamer(BaseStreamer):
    """
    Hands tokens on as `generate` has them, one target pass a call.

    transformers' own text streamers hold a token back until its word is complete; this one does not, which is
    in the peer's favour.
    """

    def __init__(self, emit: Emit) -> None:
        self._emit = emit
        self._calls = 0

    def put(self, value: torch.Tensor) -> None:
        """The prompt at first, then the tokens of each target pass."""
        if self._calls:
            for token_id in value.flatten().tolist():
                self._emit(token_id, self._calls)
        self._calls += 1

    def end(self) -> None:
        """Nothing is held back."""
