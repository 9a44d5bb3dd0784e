"""Logits as a model gives them, made ready for the sampler: on the CPU, in float32 or float64, of V ids."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.nn.functional import pad

from thinwire.common.errors import NonFiniteLogitsError

STAND_IN_ID = 0
"""Fed in place of an id without a row."""


def scored_rows(logits: torch.Tensor, vocabulary_size: int, rows: int | None = None) -> npt.NDArray[Any]:
    """
    Args:
        logits: (n, model rows), on any device.
        vocabulary_size: V; ids at and beyond it are cut off.
        rows: ids at and beyond it get -inf, for the model has no row for them; all of `logits` when None.

    Returns:
        (n, V) float32, or float64 for a float64 model; on the CPU a view of torch's own memory.
    """
    rows = min(logits.shape[-1], vocabulary_size, logits.shape[-1] if rows is None else rows)
    logits = logits[:, :rows]
    if logits.dtype not in (torch.float32, torch.float64):
        logits = logits.float()
    if rows < vocabulary_size:
        logits = pad(logits, (0, vocabulary_size - rows), value=-torch.inf)
    return np.asarray(logits.cpu().numpy())


def fed_ids(token_ids: Sequence[int], rows: int) -> Sequence[int]:
    """
    The ids a model is fed for `token_ids`: those it has no row for stand as `STAND_IN_ID`.

    No law hangs on it. What a draft proposes need not be right. A target meets such an id only as a drafted
    token, to which it gives probability 0: the token is rejected, and the logits after it are not used
    (prompts that hold one are refused, `cloud.opening`).
    """
    if max(token_ids) < rows:
        return token_ids
    return [token_id if token_id < rows else STAND_IN_ID for token_id in token_ids]


class ScoredModule:
    """
    A transformers causal model in eval mode, whose logits come ready for the sampler.

    Args:
        name: for people; a local folder's base name, or the hub id.
        vocabulary_size: V.
    """

    def __init__(self, module: Any, name: str, vocabulary_size: int) -> None:
        self.module = module
        self.name = name
        self.vocabulary_size = vocabulary_size
        self.rows = min(_rows(module.get_output_embeddings()), _rows(module.get_input_embeddings()))
        """
        Ids the model has rows for, padding included; those beyond V are cut off, ids beyond them have
        probability 0. An id that can come out must be fed next: the smaller of output and input counts.
        """
        self._keeps_logits = "logits_to_keep" in inspect.signature(module.forward).parameters

    def logits(self, token_ids: torch.Tensor, wanted: int | torch.Tensor, **options: Any) -> npt.NDArray[Any]:
        """
        One forward pass, in inference mode.

        Args:
            token_ids: (1, n) int64.
            wanted: how many of the last positions, or (rows,) indices of positions.
            options: of the model's forward.

        Returns:
            (rows, V) float32, or float64 for a float64 model; on the CPU a view of torch's own memory.
        """
        if self._keeps_logits:
            options["logits_to_keep"] = wanted
        logits = self.module(input_ids=token_ids, **options).logits[0]
        if not self._keeps_logits:
            logits = logits[-wanted:] if isinstance(wanted, int) else logits[wanted]
        return scored_rows(logits, self.vocabulary_size, self.rows)


def _rows(layer: Any) -> int:
    return int(layer.out_features if hasattr(layer, "out_features") else layer.weight.shape[0])


def non_finite(rows: npt.NDArray[Any], name: str, length: int) -> NonFiniteLogitsError | None:
    """What is wrong with (n, V) logits of the model `name`, of a sequence that has `length` tokens now."""
    highest = rows.max(axis=-1)
    if np.isfinite(highest).all():  # max propagates NaN; -inf means a row without any finite logit
        return None
    row = int(np.flatnonzero(~np.isfinite(highest))[0])
    bad = np.flatnonzero(np.isnan(rows[row]) | (rows[row] == np.inf))
    what = f"the logit of id {bad[0]} is {rows[row][bad[0]]}" if bad.size else "all logits are -inf"
    return NonFiniteLogitsError(
        f"{name}: in row {row} of {len(rows)} (after position {length - len(rows) + row}) {what}; "
        f"expected finite numbers."
    )
