"""
The paper's claims as differences that are measured seed by seed, and the verdict on each.

A positive difference speaks for the claim. It counts as seen when its mean is further from 0 than the 95 %
interval of Student's t over the seeds reaches, as not seen when it is so far on the other side, and as within
error in between.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from bench.grid.records import MEASURED, GenerationRecord
from bench.paper.lines import StepsRecord
from bench.paper.plan import HIGH_TEMPERATURE, LOW_TEMPERATURE, PaperPlan, setting_name

SEEN, NOT_SEEN, WITHIN_ERROR = "seen", "not seen: the opposite", "within error"
_T_95 = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228)
"""Two-sided 95 % quantiles of Student's t for 1, 2, ... degrees of freedom."""
_T_95_BEYOND = 2.228
"""For more degrees of freedom than the table has: that of 10, a little too careful."""

K_BETTER_LOW = "K-SQS is better at low temperature"
C_STEADIER = "C-SQS is steadier towards high temperature"
C_BETTER_HIGH = "C-SQS is better at high temperature"
ADAPTIVITY_HELPS = "Adaptivity helps"


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean over seeds."""

    mean: float
    error: float
    """Standard error over the seeds; NaN of one."""
    count: int

    def __str__(self) -> str:
        return "–" if not self.count else f"{self.mean:.3g} ± {self.error:.2g}"


def estimate(values: Iterable[float]) -> Estimate:
    """Mean and standard error; NaN values are left out."""
    finite = [value for value in values if math.isfinite(value)]
    if not finite:
        return Estimate(math.nan, math.nan, 0)
    error = statistics.stdev(finite) / math.sqrt(len(finite)) if len(finite) > 1 else math.nan
    return Estimate(statistics.fmean(finite), error, len(finite))


@dataclass(frozen=True, slots=True)
class Finding:
    """One claim in one figure of merit."""

    claim: str
    compared: str
    """What is subtracted from what."""
    unit: str
    difference: Estimate

    @property
    def margin(self) -> float:
        """Half the 95 % interval; NaN with fewer than two seeds."""
        freedom = self.difference.count - 1
        quantile = _T_95[freedom - 1] if 1 <= freedom <= len(_T_95) else _T_95_BEYOND
        return quantile * self.difference.error

    @property
    def verdict(self) -> str:
        """Seen, not seen, or within error; with fewer than two seeds there is no error to be within."""
        if self.difference.count < 2:
            return "not measured"
        if self.difference.mean > self.margin:
            return SEEN
        return NOT_SEEN if self.difference.mean < -self.margin else WITHIN_ERROR


@dataclass(frozen=True, slots=True)
class Measure:
    """One figure of merit, lower is better: its value of every setting, temperature and seed."""

    name: str
    unit: str
    values: Mapping[tuple[str, float, int], float]

    def over(self, settings: Sequence[str], temperatures: Sequence[float]) -> dict[int, float]:
        """Seed → mean over settings and temperatures; only seeds that have them all."""
        keys = [(setting, temperature) for setting in settings for temperature in temperatures]
        seeds = {seed for _, _, seed in self.values}
        return {
            seed: statistics.fmean(self.values[*key, seed] for key in keys)
            for seed in sorted(seeds)
            if keys and all((*key, seed) in self.values for key in keys)
        }

    @property
    def temperatures(self) -> list[float]:
        """Those measured, ascending."""
        return sorted({temperature for _, temperature, _ in self.values})


def latency_ms(record: GenerationRecord) -> float:
    """Milliseconds an output token: the last one's arrival over their number, opening and prompt included."""
    return 1000 * record.last_token_s / record.output_tokens


def measured(records: Iterable[GenerationRecord]) -> list[GenerationRecord]:
    """Texts of the figures: measured and whole."""
    return [record for record in records if record.purpose == MEASURED and not record.failure]


def measures(
    plan: PaperPlan, records: Sequence[GenerationRecord], steps: Sequence[StepsRecord]
) -> list[Measure]:
    """Latency and resampling rate over the link, and the rejection rate in process where there are lines."""

    def of_texts(value: Callable[[GenerationRecord], float]) -> dict[tuple[str, float, int], float]:
        return {(setting_name(r.scheme), r.temperature, r.seed): value(r) for r in measured(records)}

    found = []
    if records:
        found.append(Measure("latency", "ms a token", of_texts(latency_ms)))
        found.append(
            Measure("resampling rate", "of output tokens", of_texts(lambda record: record.resampling_rate))
        )
    if steps:
        values = {
            (setting_name(r.scheme), r.temperature, r.seed): r.rejection_rate
            for r in steps
            if plan.is_theorem_run(r.temperature, r.texts, r.scheme)
        }
        found.append(Measure("rejections in process", "of tested tokens", values))
    return found


def findings(
    plan: PaperPlan, records: Sequence[GenerationRecord], steps: Sequence[StepsRecord]
) -> list[Finding]:
    """Every claim in every figure of merit there are lines of."""
    sparse = [f"K = {size}" for size in plan.compared_support_sizes]
    adaptive = [f"β = {beta:g}" for beta in plan.compared_thresholds]
    frozen = [f"{name}, frozen" for name in adaptive]
    found = []
    for measure in measures(plan, records, steps):
        every = measure.temperatures
        low = [temperature for temperature in every if temperature <= LOW_TEMPERATURE]
        high = [temperature for temperature in every if temperature >= HIGH_TEMPERATURE]
        levels = (
            (K_BETTER_LOW, "C-SQS less K-SQS", adaptive, sparse, low),
            (C_BETTER_HIGH, "K-SQS less C-SQS", sparse, adaptive, high),
            (ADAPTIVITY_HELPS, "frozen less adaptive", frozen, adaptive, every),
            (ADAPTIVITY_HELPS, "frozen less adaptive", frozen, adaptive, high),
        )
        for claim, words, above, below, temperatures in levels:
            difference = _less(measure.over(above, temperatures), measure.over(below, temperatures))
            where = ", ".join(f"{temperature:g}" for temperature in temperatures)
            found.append(_finding(claim, f"{words}, temperature {where}", measure, difference))
        if low and high:
            growth = [
                _less(measure.over(names, every[-1:]), measure.over(names, every[:1]))
                for names in (sparse, adaptive)
            ]
            compared = f"growth from {every[0]:g} to {every[-1]:g}, K-SQS less C-SQS"
            found.append(_finding(C_STEADIER, compared, measure, _less(*growth)))
    order = (K_BETTER_LOW, C_STEADIER, C_BETTER_HIGH, ADAPTIVITY_HELPS)
    return sorted(found, key=lambda finding: order.index(finding.claim))


def _finding(claim: str, compared: str, measure: Measure, difference: Mapping[int, float]) -> Finding:
    return Finding(claim, f"{measure.name}: {compared}", measure.unit, estimate(difference.values()))


def _less(above: Mapping[int, float], below: Mapping[int, float]) -> dict[int, float]:
    """Seed by seed, where both are."""
    return {seed: above[seed] - below[seed] for seed in above if seed in below}
