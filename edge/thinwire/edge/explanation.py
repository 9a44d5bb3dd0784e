"""
Why a text was as fast as it was: what was measured, what was chosen, what follows from it, and what was seen.

Everything is made from the statistics that come with a text's end; the predictions are `forecast`'s, by the
text's own measured times and rates. They leave the first token out, and so does what is seen beside them.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from thinwire.common.schemes import runs_free
from thinwire.common.session.generation import GenerationStarted
from thinwire.common.session.statistics import GenerationStatistics
from thinwire.edge.forecast import Forecast, Times, free_run, rounds

Numbers = dict[str, float | int | None]
"""By name with its unit; None where there is no such number."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """Of one text; `measured` and `chosen` have other names where the target writes by itself."""

    scheme: str
    """With its parameters, as the command line takes it."""
    choice: str
    """Why the edge took it; empty where it was asked for."""
    measured: Numbers
    chosen: Numbers
    predicted: Numbers
    """tokens_per_pass, tokens_per_s; None where too little was measured."""
    seen: Numbers
    """The same, as it was."""

    def values(self) -> dict[str, Any]:
        """As JSON has it."""
        return asdict(self)

    def __str__(self) -> str:
        """One line."""
        chosen_by = f" ({self.choice})" if self.choice else ""
        parts = [
            f"{name} {', '.join(_shown(key, value) for key, value in numbers.items())}"
            for name, numbers in (
                ("measured", self.measured),
                ("chosen", self.chosen),
                ("predicted", self.predicted),
                ("seen", self.seen),
            )
        ]
        return "; ".join([f"explain: scheme {self.scheme}{chosen_by}", *parts])


def explain(started: GenerationStarted, statistics: GenerationStatistics) -> Explanation:
    """Of a text that has ended."""
    s = statistics
    is_free = runs_free(started.scheme)
    pass_s = _over(s.verify_s + s.queue_s, s.rounds)
    measured: Numbers
    chosen: Numbers
    if is_free:
        measured = {
            "match_rate": _finite(s.match_rate),
            "judged_guesses": s.hints_judged,
            "pass_ms": _ms(pass_s),
            "round_trip_ms": _ms(s.open_s),
            "draft_token_ms": _ms(s.draft_token_s),
            "guess_age_ms": _ms(s.hint_age_s),
            "copied_tokens": s.copied_tokens,
        }
        chosen = {
            "waits": s.waits,
            "wait_ms": _ms(_over(s.wait_s, s.waits)),
            "guesses_per_message": _over(s.hints_sent, s.hint_messages),
            "rows_per_pass": _over(s.drafted_tokens, s.rounds),
        }
    else:
        measured = {
            "acceptance_rate": _finite(s.acceptance_rate),
            "tested_tokens": s.tested_tokens,
            "pass_ms": _ms(pass_s),
            "round_trip_ms": _ms(_over(s.network_s, s.rounds)),
            "draft_token_ms": _ms(s.draft_token_s),
        }
        chosen = {
            "tokens_per_block": _over(s.drafted_tokens, s.rounds),
            "longest_block": started.draft_length,
        }
    forecast = _forecast(started, s, is_free=is_free, pass_s=pass_s)
    later_s = s.total_s - s.first_token_s
    return Explanation(
        scheme=str(started.scheme),
        choice=started.choice,
        measured=measured,
        chosen=chosen,
        predicted={
            "tokens_per_pass": None if forecast is None else forecast.tokens_per_pass,
            "tokens_per_s": None if forecast is None else forecast.tokens_per_s,
        },
        seen={
            "tokens_per_pass": _over(s.output_tokens, s.rounds),
            "tokens_per_s": _over(s.output_tokens - 1, later_s) if s.output_tokens > 1 else None,
        },
    )


def _forecast(
    started: GenerationStarted, s: GenerationStatistics, *, is_free: bool, pass_s: float | None
) -> Forecast | None:
    """None where a time or rate is missing that it needs."""
    if not pass_s or not s.output_tokens:
        return None
    drafts = s.draft_token_s > 0  # NaN is not
    if not is_free:
        if s.drafted_tokens and not drafts:
            return None
        times = Times(pass_s, s.network_s / s.rounds, s.draft_token_s if drafts else 0.0)
        rate = 0.0 if math.isnan(s.acceptance_rate) else s.acceptance_rate
        return rounds(times, rate, s.drafted_tokens / s.rounds)
    if s.hints_sent and not (drafts and s.match_rate >= 0):  # NaN is not
        return None
    times = Times(pass_s, s.open_s, s.draft_token_s)
    block, rate = (s.hints_sent / s.hint_messages, s.match_rate) if s.hints_sent else (0.0, 0.0)
    helped = free_run(times, rate, block, saves_passes=started.objective == "cloud")
    own = max(1, s.output_tokens - s.copied_tokens) / s.output_tokens  # the others took no pass
    return Forecast(helped.tokens_per_pass / own, helped.tokens_per_s / own)


def _over(value: float, count: float) -> float | None:
    return value / count if count > 0 else None


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None or math.isnan(seconds) else 1e3 * seconds


def _finite(value: float) -> float | None:
    return None if math.isnan(value) else value


_WORDS = {"tokens_per_pass": "tokens a pass", "tokens_per_s": "tokens/s"}


def _shown(name: str, value: float | None) -> str:
    """A number behind its name, in its unit."""
    words = _WORDS.get(name, name.removesuffix("_ms").replace("_per_", " a ").replace("_", " "))
    unit = " ms" if name.endswith("_ms") else ""
    number = "–" if value is None else f"{value:d}" if isinstance(value, int) else f"{value:.3g}"
    return f"{words} {number}{unit}"
