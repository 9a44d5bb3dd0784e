"""
The free-running model against a benchmark run: its times from one link, its predictions for all others.

Which tokens the draft guesses is recorded anew with the bundled pair for the run's own prompts, seeds and
temperatures, and must be the run's own texts, token for token.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from operator import itemgetter
from pathlib import Path
from typing import Any

from bench import round_time
from bench.grid.cells import Cell
from bench.grid.records import MEASURED, GenerationRecord
from bench.grid.store import read_generations, read_lines
from bench.grid.summaries import by_method
from bench.simulation.fit import STREAMS, LinkKey, link_of
from bench.simulation.free_sessions import run_each
from bench.simulation.matches import Matches, recorded
from bench.simulation.scenario import FreeOutcome, FreeScenario, FreeTimes, Passes
from thinwire.common.errors import ConfigError

METHOD = "coupled"
FIGURES = {
    "tokens_per_s": "output tokens/s",
    "over_stream": "over the plain stream's",
    "target_passes": "target passes a token",
    "wire_up_bytes": "bytes up a token",
    "wire_down_bytes": "bytes down a token",
}
"""What is compared, and its words."""
_SWEEPS = 10
"""Of the fit; the nearest is kept, as one guess more or less that is in time moves a text by a pass."""


@dataclass(frozen=True)
class FreeFit:
    """What one link says of all others."""

    link: LinkKey
    passes: Passes
    times: FreeTimes
    stream_s: float
    """Seconds a token of the plain stream, where its line is fast enough."""
    stream_opening_s: float
    matches: dict[tuple[float, int], list[Matches]]
    """By temperature and tokens of a text."""

    def scenario(self, cell: Cell, draft_length: int) -> FreeScenario:
        """One edge on the benchmark's cloud, in any cell."""
        return FreeScenario(link=cell.link, passes=self.passes, times=self.times, draft_length=draft_length)


def read_free(folder: Path) -> tuple[list[GenerationRecord], list[GenerationRecord]]:
    """The free-running texts of a run that did not fail, and those of its plain stream."""
    texts = [one for one in read_generations(folder) if one.purpose == MEASURED and not one.failure]
    return [one for one in texts if one.method == METHOD], [one for one in texts if one.method in STREAMS]


def passes_of(folder: Path) -> str:
    """What the passes of a run were, in words; ConfigError where no text is of scheme `coupled`."""
    texts, _ = read_free(folder)
    if not texts:
        raise ConfigError(f"{folder} holds no text of {METHOD}; expected some on {STREAMS[0]}'s links.")
    first = texts[0]
    if not first.is_paced:
        return "as they are"
    return f"{1000 * first.pacing_base_s:g} + {1000 * first.pacing_per_token_s:g} ms a token"


def fit(folder: Path, link: LinkKey, kept: Path) -> FreeFit:
    """
    Fit to the texts of one link.

    Args:
        kept: folder for the recorded matches.

    Raises:
        ConfigError: no such texts; or the bundled pair does not write them.
    """
    texts, streams = read_free(folder)
    own, own_streams = ([one for one in some if link_of(one) == link] for some in (texts, streams))
    if not own or not own_streams:
        raise ConfigError(f"{METHOD} or {STREAMS[0]} did not run on the link of the fit, {link}.")
    matches = {}
    for text in texts:
        key = text.temperature, text.requested_tokens
        if key not in matches:
            alike = [one for one in texts if (one.temperature, one.requested_tokens) == key]
            matches[key] = _matches(kept, alike)
    attempts = {one.attempt for one in own}
    rounds = [one for one in read_lines(folder / "rounds.jsonl") if one["attempt"] in attempts]
    later = [one for one in rounds if one["round"] > 1]
    line = statistics.linear_regression(
        [one["draft_length"] + 1 for one in later], [one["verify_s"] for one in later]
    )
    passes = Passes(line.intercept, per_row_s=max(0.0, line.slope))
    prompts = {one.prompt_ids for some in matches.values() for one in some}
    prompt_s = statistics.fmean(
        one["verify_s"] - passes.seconds(rows=one["draft_length"] + 1, blocks=1)
        for one in rounds
        if one["round"] == 1
    )
    times = FreeTimes(
        prompt_row_s=max(0.0, prompt_s) / (statistics.fmean(map(len, prompts)) - 1),
        hint_s=statistics.fmean(one["encode_s"] for one in later),
    )
    gaps_s = sum(one.last_token_s - one.first_token_s for one in own_streams)
    stream_s = gaps_s / sum(one.output_tokens - 1 for one in own_streams)
    # As the simulated stream's first token comes a pass after the request has.
    ways = [round_time.lines_s(one.cell, _REQUEST_BYTES, _STREAM_BYTES) for one in own_streams]
    stream_opening_s = statistics.fmean(one.first_token_s for one in own_streams) - statistics.fmean(ways)
    found = FreeFit(link, passes, times, stream_s, stream_opening_s, matches)
    return _fitted(found, own, sum(one["draft_s"] for one in rounds))


_REQUEST_BYTES, _STREAM_BYTES = 400, 90
"""Of a stream's request and of a token, about; they only part the opening from the line."""


def _fitted(found: FreeFit, own: Sequence[GenerationRecord], draft_s: float) -> FreeFit:
    """The times that no line tells: of a drafted token, of a turn at the cloud, of the opening."""
    measured_s = sum(one.last_token_s - one.first_token_s for one in own)
    first_s = sum(one.first_token_s for one in own)
    tried: list[tuple[float, FreeFit]] = []
    for _ in range(_SWEEPS):
        outcome = _simulated(found, own)
        late_s = sum(one.first_s for one in outcome.texts) - first_s
        slow_s = sum(one.last_s - one.first_s for one in outcome.texts) - measured_s
        wrong_s = abs(outcome.draft_s - draft_s)
        tried.append((abs(late_s) + abs(slow_s) + wrong_s, found))
        step_s = found.times.draft_s * draft_s / outcome.draft_s
        times = replace(
            found.times,
            draft_s=step_s,
            refeed_s=step_s * found.times.refeed_s / found.times.draft_s,
            turn_s=max(0.0, found.times.turn_s - slow_s / outcome.rounds),
            opening_s=max(0.0, found.times.opening_s - late_s / len(own)),
        )
        found = replace(found, times=times)
    return min(tried, key=itemgetter(0))[1]


def _simulated(found: FreeFit, own: Iterable[GenerationRecord]) -> FreeOutcome:
    """The same texts."""
    pooled = FreeOutcome()
    for (cell, length), texts in _by(own, lambda one: (one.cell, one.parameters["draft_length"])).items():
        for tokens, alike in _by(texts, lambda one: one.requested_tokens).items():
            seeds = {one.seed for one in alike}
            matches = [one for one in found.matches[cell.temperature, tokens] if one.seed in seeds]
            pooled.add(run_each(found.scenario(cell, length), matches))
    return pooled


def check(found: FreeFit, folder: Path) -> list[dict[str, Any]]:
    """A line a cell off the link of the fit: figures `measured`, `predicted`, and the `error`."""
    texts, streams = read_free(folder)
    by_stream = by_method(streams)
    lines = []
    for (cell, method), own in sorted(by_method(one for one in texts if link_of(one) != found.link).items()):
        theirs = by_stream[cell, STREAMS[0]]
        outcome = _simulated(found, own)
        stream_s = max(found.stream_s, 8 * _STREAM_BYTES / cell.rate_down_bps)
        stream_opening_s = found.stream_opening_s + round_time.lines_s(cell, _REQUEST_BYTES, _STREAM_BYTES)
        stream_tokens = sum(one.output_tokens for one in theirs)
        predicted_s = len(theirs) * stream_opening_s + (stream_tokens - len(theirs)) * stream_s
        measured = _figures(
            [one.output_tokens for one in own],
            [one.last_token_s for one in own],
            *([getattr(one, name) for one in own] for name in ("rounds", "wire_up_bytes", "wire_down_bytes")),
            stream_per_s=stream_tokens / sum(one.last_token_s for one in theirs),
        )
        predicted = _figures(
            [one.tokens for one in outcome.texts],
            [one.last_s for one in outcome.texts],
            *([getattr(outcome, name)] for name in ("rounds", "wire_up_bytes", "wire_down_bytes")),
            stream_per_s=stream_tokens / predicted_s,
        )
        error = {name: predicted[name] / measured[name] - 1 for name in measured}
        figures = {"measured": measured, "predicted": predicted, "error": error}
        lines.append({**asdict(cell), "method": method, "texts": len(own), **figures})
    return lines


def _figures(
    tokens: Sequence[int], last_s: Sequence[float], *counts: Sequence[int], stream_per_s: float
) -> dict[str, float]:
    """By name of `FIGURES`, over all texts together."""
    per_s = sum(tokens) / sum(last_s)
    figures = (per_s, per_s / stream_per_s, *(sum(count) / sum(tokens) for count in counts))
    return dict(zip(FIGURES, figures, strict=True))


def _matches(kept: Path, texts: Sequence[GenerationRecord]) -> list[Matches]:
    """Of each prompt and seed, and held against the run's own texts."""
    first = texts[0]
    wanted = {one.seed: one for one in texts}
    found = recorded(kept, first.temperature, max(wanted) - min(wanted) + 1, first.requested_tokens)
    for match in found:
        if match.seed in wanted and match.text_sha256 != wanted[match.seed].text_sha256:
            raise ConfigError(
                f"the bundled pair writes another text than the run's for seed {match.seed} at temperature "
                f"{match.temperature:g}; expected the pair that the run was made with."
            )
    return found


def _by(texts: Iterable[GenerationRecord], key: Callable[[GenerationRecord], Any]) -> dict[Any, list[Any]]:
    groups: dict[Any, list[Any]] = {}
    for one in texts:
        groups.setdefault(key(one), []).append(one)
    return groups
