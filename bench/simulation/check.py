"""The model against cells it was not fitted to: the same figures for each, and how far off they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bench.grid.cells import Cell
from bench.grid.records import GenerationRecord
from bench.simulation.fit import Fit, MeasuredText, fixed_parameters
from bench.simulation.model import run_texts
from thinwire.common.errors import ConfigError

CHECK_TEXTS = 300
"""Simulated a cell."""
LEAST_CELLS = 6
FIGURES = ("tokens_per_s", "seconds_per_token", "wire_up_bytes", "wire_down_bytes", "target_passes")
HEADLINE = "tokens_per_s"
"""The benchmark's own."""


@dataclass(frozen=True, slots=True)
class Prediction:
    """One method in one cell."""

    rate_up_bps: int
    rtt_s: float
    temperature: float
    method: str
    draft_length: int
    texts: int
    """Measured."""
    measured: dict[str, float]
    """By name of the figure: tokens a second, seconds a token after the first, bytes and passes a token."""
    predicted: dict[str, float]

    def error(self, figure: str) -> float:
        """Predicted over measured, less 1."""
        return self.predicted[figure] / self.measured[figure] - 1

    @property
    def cell(self) -> Cell:
        """Where."""
        return Cell(self.rate_up_bps, self.rtt_s, self.temperature)


def check(fitted: Fit, texts: Sequence[MeasuredText]) -> tuple[list[Prediction], list[str]]:
    """
    Predict every cell off the links of the fit.

    Returns:
        the predictions, and why each measured cell that has none has none.

    Raises:
        ConfigError: fewer than six predictions.
    """
    cells: dict[tuple[Cell, str], list[GenerationRecord]] = {}
    for text in texts:
        if text.link not in fitted.links:
            cells.setdefault((text.record.cell, text.record.method), []).append(text.record)
    predictions, left_out = [], []
    for (cell, method), records in sorted(cells.items()):
        try:
            predictions.append(_predict(fitted, cell, method, records))
        except ConfigError as error:
            left_out.append(f"{cell}, {method}: {error.message}")
    if len(predictions) < LEAST_CELLS:
        raise ConfigError(
            f"{len(predictions)} cells can be predicted; expected at least {LEAST_CELLS} off the links of "
            f"the fit. {' '.join(left_out)}".strip()
        )
    return predictions, left_out


def worst(predictions: Sequence[Prediction], figure: str) -> Prediction:
    """The one furthest off."""
    return max(predictions, key=lambda prediction: abs(prediction.error(figure)))


def _predict(fitted: Fit, cell: Cell, method: str, records: Sequence[GenerationRecord]) -> Prediction:
    first = records[0]
    if method not in fitted.times:
        raise ConfigError(f"{method} did not run on the link of the fit.")
    of_fit = fitted.parameters.get((method, cell.temperature))
    if of_fit != fixed_parameters(first):
        raise ConfigError(
            f"the parameters are {fixed_parameters(first)}; expected those of the fit, {of_fit}."
        )
    length = int(first.parameters.get("draft_length", 0))
    outcome = run_texts(fitted.scenario(cell, method, length, first.requested_tokens), CHECK_TEXTS)
    # The prompt has a pass of its own, except that a stream's gives its first token.
    passes = outcome.passes + (0 if first.is_peer else len(outcome.texts))
    return Prediction(
        *(cell.rate_up_bps, cell.rtt_s, cell.temperature, method, length),
        texts=len(records),
        measured=_pooled(
            [(record.first_token_s, record.last_token_s, record.output_tokens) for record in records],
            sum(record.wire_up_bytes for record in records),
            sum(record.wire_down_bytes for record in records),
            sum(record.target_passes for record in records),
        ),
        predicted=_pooled(
            [(text.first_s, text.last_s, text.tokens) for text in outcome.texts],
            *(outcome.wire_up_bytes, outcome.wire_down_bytes, passes),
        ),
    )


def _pooled(
    texts: Sequence[tuple[float, float, int]], up_bytes: int, down_bytes: int, passes: int
) -> dict[str, float]:
    """The figures over all texts together; each text is (first arrival, last arrival, tokens)."""
    tokens = sum(count for _, _, count in texts)
    values = (
        tokens / sum(last_s for _, last_s, _ in texts),
        sum(last_s - first_s for first_s, last_s, _ in texts) / (tokens - len(texts)),
        *(count / tokens for count in (up_bytes, down_bytes, passes)),
    )
    return dict(zip(FIGURES, values, strict=True))
