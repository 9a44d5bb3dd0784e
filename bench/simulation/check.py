"""The model against cells it was not fitted to: the same figures for each, and how far off they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from operator import attrgetter
from typing import Any

from bench.grid.records import GenerationRecord
from bench.grid.summaries import Summary, summarise
from bench.simulation.fit import Fit, draft_length_of, fixed_parameters, link_of
from bench.simulation.model import run_texts
from bench.simulation.scenario import Text
from thinwire.common.errors import ConfigError

CHECK_TEXTS = 300
"""Simulated a cell."""
LEAST_CELLS = 6
COUNTS = {
    "wire_up_bytes": "bytes up a token",
    "wire_down_bytes": "bytes down a token",
    "target_passes": "target passes a token",
}
FIGURES = {
    "tokens_per_s": "output tokens/s",
    "seconds_per_token": "seconds a token after the first",
    **COUNTS,
}
"""What is compared, and its words."""
HEADLINE = "tokens_per_s"
"""The benchmark's own."""


def check(fitted: Fit, texts: Sequence[GenerationRecord]) -> tuple[list[dict[str, Any]], list[str]]:
    """
    Predict every cell off the links of the fit.

    Returns:
        a line of `simulation.jsonl` for each method and cell: by name of the figure what was `measured`, what
        is `predicted` and the `error`, predicted over measured less 1; and why a measured cell has no line.

    Raises:
        ConfigError: fewer than six predictions.
    """
    cells = summarise(text for text in texts if link_of(text) not in fitted.links)
    predictions, left_out = [], []
    for measured in (one for cell in cells for one in sorted(cell.methods, key=attrgetter("method"))):
        try:
            predictions.append(_predict(fitted, measured))
        except ConfigError as error:
            left_out.append(f"{measured.cell}, {measured.method}: {error.message}")
    if len(predictions) < LEAST_CELLS:
        raise ConfigError(
            f"{len(predictions)} cells can be predicted; expected at least {LEAST_CELLS} off the links of "
            f"the fit. {' '.join(left_out)}".strip()
        )
    return predictions, left_out


def worst(predictions: Sequence[dict[str, Any]], figure: str) -> dict[str, Any]:
    """The one furthest off."""
    return max(predictions, key=lambda one: abs(one["error"][figure]))


def _predict(fitted: Fit, of: Summary) -> dict[str, Any]:
    first = of.first
    if of.method not in fitted.times:
        raise ConfigError(f"{of.method} did not run on the link of the fit.")
    own, of_fit = fixed_parameters(first), fitted.parameters.get((of.method, first.temperature))
    if own != of_fit:
        raise ConfigError(f"the parameters are {own}; expected those of the fit, {of_fit}.")
    length = draft_length_of(first)
    outcome = run_texts(fitted.scenario(of.cell, of.method, length, first.requested_tokens), CHECK_TEXTS)
    measured = _pooled(
        [Text(text.first_token_s, text.last_token_s, text.output_tokens) for text in of.texts],
        [of.total(name) for name in COUNTS],
    )
    # The prompt has a pass of its own, except that a stream's gives its first token.
    passes = outcome.passes + (0 if first.is_peer else len(outcome.texts))
    predicted = _pooled(outcome.texts, (outcome.wire_up_bytes, outcome.wire_down_bytes, passes))
    return {
        **asdict(of.cell),
        "method": of.method,
        "draft_length": length,
        "texts": len(of.texts),
        "measured": measured,
        "predicted": predicted,
        "error": {figure: predicted[figure] / measured[figure] - 1 for figure in FIGURES},
    }


def _pooled(texts: Sequence[Text], counts: Sequence[float]) -> dict[str, float]:
    """The figures over all texts together; `counts` are those of `COUNTS`."""
    tokens = sum(text.tokens for text in texts)
    values = (
        tokens / sum(text.last_s for text in texts),
        sum(text.last_s - text.first_s for text in texts) / (tokens - len(texts)),
        *(count / tokens for count in counts),
    )
    return dict(zip(FIGURES, values, strict=True))
