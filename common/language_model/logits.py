"""Logits as a model gives them, made ready for the sampler: on the CPU, in float32 or float64, of V ids."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from common.errors import NonFiniteLogitsError


def scored_rows(logits: torch.Tensor, vocabulary_size: int) -> npt.NDArray[Any]:
    """
    Args:
        logits: (n, model rows), on any device.
        vocabulary_size: V; ids at and beyond it are cut off.

    Returns:
        (n, V) float32, or float64 for a float64 model; on the CPU a view of torch's own memory.
    """
    logits = logits[:, :vocabulary_size]
    if logits.dtype not in (torch.float32, torch.float64):
        logits = logits.float()
    return np.asarray(logits.cpu().numpy())


def non_finite(rows: npt.NDArray[Any], name: str, length: int) -> NonFiniteLogitsError | None:
    """
    What is wrong with rows of logits; None if nothing is.

    Args:
        rows: (n, V).
        name: of the model.
        length: tokens of the sequence after the pass.
    """
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
