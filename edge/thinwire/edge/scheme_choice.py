"""
Which scheme a text gets that asks for `auto`, from what this process has measured; no clock, no I/O.

Under objective latency it is `coupled`, unless rounds are predicted to be much faster: that is where the
round trip is short against a pass and the draft is accepted more often than it is right.
Under objective cloud it is `coupled` whose target waits for hints, unless rounds were measured to spend fewer
target passes a token and do not take more than a third longer, as on a link whose round trip is short.
The choice is made before a text begins and stays. Schemes give different texts for one seed, so it is told.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import replace

from thinwire.common.schemes import SchemeParameters, parse_scheme
from thinwire.common.session.generation import GenerationRequest
from thinwire.common.session.statistics import GenerationStatistics
from thinwire.edge.forecast import Forecast, Times, free_run, reach, rounds

FREE, ROUNDS = "coupled", "k-sqs"
LEAST_SPEED = 0.75
"""Of coupled's predicted tokens/s, below which rounds are not taken however few their passes are."""
LEAST_GAIN = 1.15
"""Of rounds over coupled, in predicted tokens/s, before they are taken for time."""
_MEMORY = 4
"""Texts that a mean remembers, about."""
_LEAST_TOKENS = 16
"""A shorter text says too little of rates."""

RATES: Mapping[str, Mapping[float, float]] = {
    FREE: {0.3: 0.84, 0.6: 0.77, 1.0: 0.62},
    ROUNDS: {0.3: 0.82, 1.0: 0.59},
}
"""Before a text was made: right guesses, or accepted of tested tokens, by temperature (bench/LOG.md)."""
PASSES: Mapping[str, Mapping[float, float]] = {FREE: {0.3: 0.26, 1.0: 0.44}, ROUNDS: {0.3: 0.26, 1.0: 0.48}}
"""Before a text was made: target passes a token under objective cloud (bench/LOG.md)."""
FIRST_TIMES = Times(pass_s=0.06, round_trip_s=0.04, draft_token_s=0.003)


class Experience:
    """What texts of this process have measured, the last ones most."""

    def __init__(self) -> None:
        self.texts = 0
        """Texts that were taken in."""
        self._times = FIRST_TIMES
        self._means: dict[tuple[str, ...], float] = {}

    def times(self) -> Times:
        return self._times

    def note(self, request: GenerationRequest, statistics: GenerationStatistics) -> None:
        """A text has ended; `request.scheme` is the one it had."""
        s, name = statistics, request.scheme.scheme
        if s.output_tokens < _LEAST_TOKENS or not s.rounds:
            return
        memory = min(_MEMORY, self.texts + 1)
        self.texts += 1
        measured = {
            "pass_s": (s.queue_s + s.verify_s) / s.rounds,
            "round_trip_s": s.open_s,
            "draft_token_s": s.draft_token_s,
        }
        for field, value in measured.items():
            if value > 0:  # NaN is not
                before = getattr(self._times, field)
                self._times = replace(self._times, **{field: before + (value - before) / memory})
        where = _band(request)
        rate = s.acceptance_rate if math.isnan(s.match_rate) else s.match_rate
        if not math.isnan(rate):
            self._mean(("rate", name, where), rate)
        self._mean(("passes", name, request.objective, where), s.rounds / s.output_tokens)

    def rate(self, name: str, request: GenerationRequest) -> float:
        """Right guesses, or accepted of tested tokens, at the request's temperature."""
        known = self._means.get(("rate", name, _band(request)))
        return _between(RATES[name], request.sampling.temperature) if known is None else known

    def passes(self, name: str, request: GenerationRequest) -> float:
        """Target passes a token under objective cloud at the request's temperature."""
        objective = "cloud" if name == FREE else "latency"  # rounds have no other
        known = self._means.get(("passes", name, objective, _band(request)))
        return _between(PASSES[name], request.sampling.temperature) if known is None else known

    def _mean(self, key: tuple[str, ...], value: float) -> None:
        before = self._means.get(key, value)
        self._means[key] = before + (value - before) / _MEMORY


def choose(
    request: GenerationRequest,
    known: Experience,
    served: Collection[str] | None = None,
    *,
    has_draft: bool = True,
) -> tuple[SchemeParameters, str]:
    """
    The scheme of a text.

    Args:
        request: its own scheme is not looked at.
        served: names of the cloud's schemes; None where it has not said.
        has_draft: whether this edge has a draft model.

    Returns:
        the parameters, and why in one sentence without a full stop.
    """
    temperature = request.sampling.temperature
    by_rounds = parse_scheme(ROUNDS, temperature)
    if served is not None and FREE not in served:
        return by_rounds, f"{ROUNDS}, as the cloud does not serve {FREE}"
    for use, is_asked in (("a prediction", request.prediction), ("an edge without draft", not has_draft)):
        if is_asked:
            return parse_scheme(FREE, temperature), f"{FREE}, the one scheme for {use}"
    free, its = parse_scheme(FREE, temperature), _forecasts(request, known)
    speeds = f"{_speed(FREE, its[FREE])}, {_speed(ROUNDS, its[ROUNDS])}"
    expected = f"{speeds}, from {known.texts or 'no'} earlier texts"
    share = its[ROUNDS].tokens_per_s / its[FREE].tokens_per_s
    has_rounds = served is None or ROUNDS in served
    if request.objective == "latency":
        if share >= LEAST_GAIN and has_rounds:
            return by_rounds, f"{ROUNDS} for objective latency ({expected})"
        return free, f"{FREE} for objective latency ({expected})"
    spent = {name: known.passes(name, request) for name in (FREE, ROUNDS)}
    passes = f"{spent[FREE]:.2f} passes a token against {ROUNDS}'s {spent[ROUNDS]:.2f}; {expected}"
    if spent[ROUNDS] < spent[FREE] and share >= LEAST_SPEED and has_rounds:
        return by_rounds, f"{ROUNDS} for objective cloud ({FREE} {passes})"
    return free, f"{FREE} for objective cloud ({passes})"


def _forecasts(request: GenerationRequest, known: Experience) -> dict[str, Forecast]:
    times, length = known.times(), request.draft_length
    saves = request.objective == "cloud"
    its, theirs = known.rate(FREE, request), known.rate(ROUNDS, request)
    return {
        FREE: free_run(times, its, reach(its, length), saves_passes=saves),
        ROUNDS: rounds(times, theirs, reach(theirs, length)),
    }


def _speed(name: str, forecast: Forecast) -> str:
    return f"{name} {forecast.tokens_per_s:.3g} tokens/s expected"


def _band(request: GenerationRequest) -> str:
    """Temperatures that count as one."""
    return f"{request.sampling.temperature:.1f}"


def _between(table: Mapping[float, float], at: float) -> float:
    """Linear between the entries, constant beyond them."""
    low = max((key for key in table if key <= at), default=min(table))
    high = min((key for key in table if key >= at), default=max(table))
    share = (at - low) / (high - low) if high > low else 0.0
    return table[low] + share * (table[high] - table[low])
