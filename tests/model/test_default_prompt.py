"""What `make run` shows a newcomer: a text, and not its end."""

from __future__ import annotations

import numpy as np

import torch_device
from thinwire.common import demo_pair
from thinwire.common.config import SamplingParameters
from thinwire.common.law.distributions import warp
from thinwire.edge.demo import DEFAULT_PROMPT

TEXTS, TOKENS = 20, 16


def test_the_targets_texts_behind_the_default_prompt_hardly_ever_end_at_once() -> None:
    """Drawn from the bundled target at temperature 1; at most two in twenty end within sixteen tokens."""
    target = torch_device.load_on_device(str(demo_pair.target_path()))
    sequence = target.open_sequence()
    prompt = target.vocabulary.encode(DEFAULT_PROMPT)
    first = sequence.extend(prompt, logit_rows=1)[0]
    draws = np.random.default_rng(1)
    ended = 0
    for _ in range(TEXTS):
        row = first
        for _ in range(TOKENS):
            law = warp(row, SamplingParameters())
            token_id = int(draws.choice(len(law), p=law))
            if token_id in target.eos_token_ids:
                ended += 1
                break
            row = sequence.extend([token_id], logit_rows=1)[0]
        sequence.truncate(len(prompt))
    sequence.close()

    assert ended <= 2
