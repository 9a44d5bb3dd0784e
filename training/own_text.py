"""Text that the target writes itself, for the draft to learn from: that is what it will have to guess."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from training.model import Llama, Past

PROMPT_TOKENS = 64
TEMPERATURES = (1.0, 0.6, 1.0, 0.3)


@torch.no_grad()
def write(target: Llama, prompts: Tensor, length: int, temperature: float) -> Tensor:
    """
    Sample after prompts.

    Args:
        target: its layers in eager mode.
        prompts: int64 [rows, tokens].
        length: of each row in the end.
        temperature: of every draw.

    Returns:
        int64 [rows, length], prompts included.
    """
    pasts = [Past(length) for _ in target.model.layers]
    ids = torch.empty(len(prompts), length, dtype=torch.long, device=prompts.device)
    ids[:, : prompts.shape[1]] = prompts
    fed = 0
    # The length grows by one a pass; cuDNN's attention would plan each anew.
    with sdpa_kernel([SDPBackend.FLASH_ATTENTION, SDPBackend.MATH]):
        for end in range(prompts.shape[1], length):
            hidden = target(ids[:, fed:end], pasts)[:, -1].float()
            logits = (hidden / temperature) @ target.head.T
            # argmax(logits + Gumbel noise) is a draw from softmax(logits).
            ids[:, end] = (logits - torch.empty_like(logits).exponential_().log_()).argmax(-1)
            fed = end
    return ids


class OwnText:
    """
    Rows of the target's own text, given out batch by batch, each as often as the next.

    Args:
        rows: of one batch; what is added holds a multiple of it.
        temperatures: of one piece of text after the other; the draft learns each at its own.
    """

    def __init__(self, rows: int, temperatures: Sequence[float] = TEMPERATURES) -> None:
        self._rows = rows
        self._temperatures = temperatures
        self._batches: list[tuple[Tensor, float]] = []
        self._written = 0
        self._given = 0

    @property
    def tokens(self) -> int:
        """Written so far, prompts included."""
        return sum(ids.numel() for ids, _ in self._batches)

    def add(self, target: Llama, prompts: Tensor, length: int) -> None:
        """Let the target write on from prompts, at the next temperature."""
        temperature = self._temperatures[self._written % len(self._temperatures)]
        self._written += 1
        ids = write(target, prompts, length, temperature).to(torch.int32)
        self._batches += [(part, temperature) for part in torch.split(ids, self._rows)]

    def batch(self) -> tuple[Tensor, float]:
        """(int64 [rows, length], its temperature), in a fixed order that mixes what was written when."""
        # A stride without a common divisor visits every batch once a turn.
        stride = next(n for n in (7919, 7907, 7901) if len(self._batches) % n)
        ids, temperature = self._batches[self._given * stride % len(self._batches)]
        self._given += 1
        return ids.long(), temperature
