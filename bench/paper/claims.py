"""
The paper's claims as differences that are measured seed by seed, and the verdict on each.

A positive difference speaks for the claim. It counts as seen when its mean is further from 0 than the 95 %
interval of Student's t over the seeds reaches, as not seen when it is so far on the other side, and as within
error in between.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import polars as pl
from scipy import stats  # type: ignore[import-untyped]

from bench.paper.data import Data, Estimate, distinct, estimate
from bench.paper.plan import HIGH_TEMPERATURE, LOW_TEMPERATURE

SEEN, NOT_SEEN, WITHIN_ERROR = "seen", "not seen: the opposite", "within error"
CLAIMS = (
    "K-SQS is better at low temperature",
    "C-SQS is steadier towards high temperature",
    "C-SQS is better at high temperature",
    "Adaptivity helps",
)
K_BETTER_LOW, C_STEADIER, C_BETTER_HIGH, ADAPTIVITY_HELPS = CLAIMS
C_BETTER_AT_EQUAL_BITS = "C-SQS rejects less than K-SQS at the same bits"
GROWTH = "growth from {first} to {last}, K-SQS less C-SQS"
_DIFFERENCES = (
    (K_BETTER_LOW, "C-SQS less K-SQS, temperature {low}", "adaptive low", "sparse low"),
    (C_BETTER_HIGH, "K-SQS less C-SQS, temperature {high}", "sparse high", "adaptive high"),
    (ADAPTIVITY_HELPS, "frozen less adaptive, temperature {every}", "frozen every", "adaptive every"),
    (ADAPTIVITY_HELPS, "frozen less adaptive, temperature {high}", "frozen high", "adaptive high"),
    (C_STEADIER, GROWTH, "sparse last", "sparse first", "adaptive last", "adaptive first"),
)
"""Claim, words, and the means over settings and temperatures: the first less the second, less the same."""


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
        return float(stats.t.ppf(0.975, self.difference.count - 1)) * self.difference.error

    @property
    def verdict(self) -> str:
        """Seen, not seen, or within error; with fewer than two seeds there is no error to be within."""
        if self.difference.count < 2:
            return "not measured"
        if self.difference.mean > self.margin:
            return SEEN
        return NOT_SEEN if self.difference.mean < -self.margin else WITHIN_ERROR


def findings(data: Data) -> list[Finding]:
    """Every claim in every figure of merit there are lines of; lower is better in each."""
    found = []
    for measure, unit, lines, column in (
        ("latency", "ms a token", data.texts, "latency_ms"),
        ("resampling rate", "of output tokens", data.texts, "resampling_rate"),
        ("rejections in process", "of tested tokens", data.theorem_runs, "rejection_rate"),
    ):
        every = sorted(set(lines["temperature"])) if not lines.is_empty() else []
        low = [temperature for temperature in every if temperature <= LOW_TEMPERATURE]
        high = [temperature for temperature in every if temperature >= HIGH_TEMPERATURE]
        at = {"every": every, "low": low, "high": high, "first": every[:1], "last": every[-1:]}
        where = {name: distinct(temperatures) for name, temperatures in at.items()}
        for claim, words, *terms in _DIFFERENCES if every else ():
            if claim == C_STEADIER and not (low and high):
                continue
            named = (term.split() for term in terms)
            means = [_mean(column, getattr(data.plan, who), at[when]) for who, when in named]
            less = sum(sign * mean for sign, mean in zip((1, -1, -1, 1), means, strict=False))
            by_seed = lines.group_by("seed").agg(less=less)["less"].drop_nulls()
            found.append(Finding(claim, f"{measure}: {words.format(**where)}", unit, estimate(by_seed)))
    return sorted(found, key=lambda finding: CLAIMS.index(finding.claim))


def equal_bits_findings(data: Data) -> list[Finding]:
    """
    K-SQS's rejections less those of adaptive C-SQS at the same payload bits a token, by temperature.

    K-SQS is read off on the line through its points, straight on a logarithmic axis of bits; outside there is
    none. The paper compares K = 2 and 3 with β = 0.1 and 0.2, which need not send as much.
    """
    found = []
    for temperature in data.plan.step_temperatures:
        differences = []
        runs = data.theorem_runs.filter(pl.col("temperature") == temperature)
        for of_seed in runs.sort("seed").partition_by("seed"):
            of_k = of_seed.filter(pl.col("scheme") == "k-sqs").sort("bits")
            of_c = of_seed.filter(pl.col("setting").is_in(data.plan.adaptive))
            if of_k.is_empty() or of_c.is_empty():
                continue
            bits, known = np.log(of_c["bits"]), np.log(of_k["bits"])
            at_bits = np.interp(bits, known, of_k["rejection_rate"], left=math.nan, right=math.nan)
            differences.append(float(np.mean(at_bits - of_c["rejection_rate"].to_numpy())))
        compared = f"rejections in process: K-SQS at C-SQS's bits less C-SQS, temperature {temperature:g}"
        found.append(Finding(C_BETTER_AT_EQUAL_BITS, compared, "of tested tokens", estimate(differences)))
    return found


def _mean(column: str, settings: tuple[str, ...], temperatures: list[float]) -> pl.Expr:
    """Over settings and temperatures; null where not all are there."""
    asked = pl.col("setting").is_in(settings) & pl.col("temperature").is_in(temperatures)
    chosen = pl.col(column).filter(asked)
    return pl.when(chosen.len() == len(settings) * len(temperatures)).then(chosen.mean())
