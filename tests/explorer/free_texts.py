"""
Texts that the cloud writes by itself, for the explorer: what is asked for, what must come, at which rates.

The reference of such a text needs no session at all: each token wins the race at its position.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from fakes import random_law
from free_running_pair import own_text
from thinwire.common.config import SamplingParameters
from thinwire.common.door.tenants import Access, Quotas
from thinwire.common.law.distributions import warp
from thinwire.common.law.random_streams import KeyedDraws
from thinwire.common.schemes.coupled import Coupled
from thinwire.common.session.generation import GenerationRequest

SIZE = 6
CONTEXT_LENGTH = 160
TARGET = lru_cache(100_000)(random_law(SIZE, 1))
NEARLY = random_law(SIZE, 2)
DRAFTS = {
    "the target itself": TARGET,
    "another law": lru_cache(100_000)(NEARLY),
    "nearly the target": lru_cache(100_000)(lambda prefix: 0.85 * TARGET(prefix) + 0.15 * NEARLY(prefix)),
}
WINDOWS = (17, 24, 128)
"""Tokens that a target may be ahead; an edge acknowledges every 16."""


class SlowTenants(Access):
    """Nobody needs a token, and everybody is held to the same rates."""

    def __init__(self, quotas: Quotas) -> None:
        super().__init__()
        self._quotas = quotas

    def quotas(self, tenant: str) -> Quotas:
        """The same for all."""
        return self._quotas


def access_of(chance: random.Random) -> Access:
    """No rates most of the time; otherwise ones that a text of a schedule meets."""
    return SlowTenants(
        Quotas(
            rounds_per_s=chance.choice((None, None, 4.0, 20.0)),
            tokens_per_s=chance.choice((None, None, 40.0, 200.0)),
            max_sessions=chance.choice((None, None, 2)),
        )
    )


def request_of(chance: random.Random) -> tuple[tuple[int, ...], GenerationRequest]:
    """(prompt, request) of a text; of few kinds, so that references are made once."""
    number = chance.randrange(400)
    source = random.Random(f"free {number}")
    request = GenerationRequest(
        "",
        seed=number,
        scheme=Coupled.Parameters(),
        objective=source.choice(("latency", "cloud")),
        sampling=SamplingParameters(temperature=source.choice((0.0, 1.0))),
        max_tokens=source.choice((1, 2, source.randint(3, 12), source.randint(20, 60))),
        draft_length=source.choice((0, 1, 3, 8)),
        min_block_acceptance=source.choice((0.0, 0.3)),
    )
    prompt = tuple(source.randrange(SIZE) for _ in range(source.randint(1, 6)))
    if source.random() < 0.3:
        text = own_ids(prompt, request)
        request = replace(request, stop_token_ids=(text[source.randrange(len(text))],))
    return prompt, request


@lru_cache(4096)
def own_ids(prompt: tuple[int, ...], request: GenerationRequest) -> tuple[int, ...]:
    """The output by its definition, up to its first stop token."""
    ids = own_text(warped_law(TARGET, request.sampling), KeyedDraws(request.seed), request.max_tokens, prompt)
    ends = [place for place, token_id in enumerate(ids) if token_id in request.stop_token_ids]
    return ids[: ends[0] + 1] if ends else ids


def warped_law(law: Any, sampling: SamplingParameters) -> Callable[[Any], npt.NDArray[Any]]:
    """The law as a cloud sees it: by way of logits, in float64."""
    return lambda prefix: warp(np.log(law(tuple(prefix))), sampling, dtype=np.float64)
