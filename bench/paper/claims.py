"""
The paper's claims as differences that are measured seed by seed, and the verdict on each.

A positive difference speaks for the claim. It counts as seen when its mean is further from 0 than the 95 %
interval of Student's t over the seeds reaches, as not seen when it is so far on the other side, and as within
error in between.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from scipy import stats  # type: ignore[import-untyped]

from bench.paper.data import Data, Estimate, estimate
from bench.paper.plan import HIGH_TEMPERATURE, LOW_TEMPERATURE

SEEN, NOT_SEEN, WITHIN_ERROR = "seen", "not seen: the opposite", "within error"
K_BETTER_LOW = "K-SQS is better at low temperature"
C_STEADIER = "C-SQS is steadier towards high temperature"
C_BETTER_HIGH = "C-SQS is better at high temperature"
ADAPTIVITY_HELPS = "Adaptivity helps"
C_BETTER_AT_EQUAL_BITS = "C-SQS rejects less than K-SQS at the same bits"


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
    measures = (
        ("latency", "ms a token", data.texts, "latency_ms"),
        ("resampling rate", "of output tokens", data.texts, "resampling_rate"),
        ("rejections in process", "of tested tokens", data.theorem_runs, "rejection_rate"),
    )
    sparse = [f"K = {size}" for size in data.plan.compared_support_sizes]
    adaptive = [f"β = {beta:g}" for beta in data.plan.compared_thresholds]
    frozen = [f"{name}, frozen" for name in adaptive]
    found = []
    for measure, unit, frame, column in measures:
        if frame.is_empty():
            continue
        every = sorted(set(frame["temperature"]))
        low = [temperature for temperature in every if temperature <= LOW_TEMPERATURE]
        high = [temperature for temperature in every if temperature >= HIGH_TEMPERATURE]
        values = frame.select("setting", "temperature", "seed", value=column)
        for claim, words, above, below, temperatures in (
            (K_BETTER_LOW, "C-SQS less K-SQS", adaptive, sparse, low),
            (C_BETTER_HIGH, "K-SQS less C-SQS", sparse, adaptive, high),
            (ADAPTIVITY_HELPS, "frozen less adaptive", frozen, adaptive, every),
            (ADAPTIVITY_HELPS, "frozen less adaptive", frozen, adaptive, high),
        ):
            difference = _less(_over(values, above, temperatures), _over(values, below, temperatures))
            where = ", ".join(f"{temperature:g}" for temperature in temperatures)
            compared = f"{measure}: {words}, temperature {where}"
            found.append(Finding(claim, compared, unit, estimate(difference.values())))
        if low and high:
            growth = [
                _less(_over(values, names, every[-1:]), _over(values, names, every[:1]))
                for names in (sparse, adaptive)
            ]
            compared = f"{measure}: growth from {every[0]:g} to {every[-1]:g}, K-SQS less C-SQS"
            found.append(Finding(C_STEADIER, compared, unit, estimate(_less(*growth).values())))
    order = (K_BETTER_LOW, C_STEADIER, C_BETTER_HIGH, ADAPTIVITY_HELPS)
    return sorted(found, key=lambda finding: order.index(finding.claim))


def equal_bits_findings(data: Data) -> list[Finding]:
    """
    K-SQS's rejections less those of adaptive C-SQS at the same payload bits a token, by temperature.

    The paper compares K = 2 and 3 with β = 0.1 and 0.2, which need not send as much.
    """
    settings = [f"β = {beta:g}" for beta in data.plan.compared_thresholds]
    found = []
    for temperature in data.plan.step_temperatures:
        differences = []
        runs = data.theorem_runs.filter(pl.col("temperature") == temperature)
        for (_,), of_seed in runs.sort("seed").partition_by("seed", as_dict=True).items():
            points = of_seed.select("bits", "rejection_rate")
            curve = points.filter(of_seed["scheme"] == "k-sqs").sort("bits").rows()
            of_c = points.filter(of_seed["setting"].is_in(settings)).rows()
            if of_c:
                differences.append(sum(at_bits(curve, bits) - rate for bits, rate in of_c) / len(of_c))
        compared = f"rejections in process: K-SQS at C-SQS's bits less C-SQS, temperature {temperature:g}"
        found.append(Finding(C_BETTER_AT_EQUAL_BITS, compared, "of tested tokens", estimate(differences)))
    return found


def at_bits(curve: Sequence[tuple[float, float]], bits: float) -> float:
    """
    The value at so many bits: on the line through the points, straight on a logarithmic axis of bits.

    Args:
        curve: (bits, value), ascending in bits.

    Returns:
        NaN outside the curve.
    """
    if not curve:
        return math.nan
    known, values = zip(*curve, strict=True)
    return float(np.interp(math.log(bits), np.log(known), values, left=math.nan, right=math.nan))


def _over(values: pl.DataFrame, settings: Sequence[str], temperatures: Sequence[float]) -> dict[int, float]:
    """Seed → mean over settings and temperatures; only seeds that have them all."""
    chosen = values.filter(pl.col("setting").is_in(settings), pl.col("temperature").is_in(temperatures))
    means = chosen.group_by("seed").agg(pl.col("value").mean(), pl.len()).sort("seed")
    whole = means.filter(pl.col("len") == len(settings) * len(temperatures))
    return dict(whole.select("seed", "value").iter_rows())


def _less(above: Mapping[int, float], below: Mapping[int, float]) -> dict[int, float]:
    """Seed by seed, where both are."""
    return {seed: above[seed] - below[seed] for seed in above if seed in below}
