"""
C-SQS beside K-SQS at the same payload bits a token, in process.

The paper compares K = 2 and 3 with β = 0.1 and 0.2, which need not send as much.
Here the rejection rate that K-SQS would have at C-SQS's bits is read off the line through its measured K,
straight on a logarithmic axis of bits.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

from bench.paper.claims import Finding, estimate
from bench.paper.lines import StepsRecord
from bench.paper.plan import PaperPlan, setting_name

C_BETTER_AT_EQUAL_BITS = "C-SQS rejects less than K-SQS at the same bits"


def at_bits(curve: Sequence[tuple[float, float]], bits: float) -> float:
    """
    The value at so many bits, between the two nearest points.

    Args:
        curve: (bits, value), ascending in bits.

    Returns:
        NaN outside the curve.
    """
    for (low, at_low), (high, at_high) in pairwise(curve):
        if low <= bits <= high and low < high:
            share = math.log(bits / low) / math.log(high / low)
            return at_low + share * (at_high - at_low)
    return math.nan


def equal_bits_findings(plan: PaperPlan, steps: Sequence[StepsRecord]) -> list[Finding]:
    """K-SQS's rejections less those of adaptive C-SQS at the same bits, one finding per temperature."""
    settings = [f"β = {beta:g}" for beta in plan.compared_thresholds]
    found = []
    for temperature in plan.step_temperatures:
        differences = []
        for seed in range(1, plan.step_seeds + 1):
            runs = [
                record
                for record in steps
                if (record.temperature, record.seed) == (temperature, seed)
                and plan.is_theorem_run(temperature, record.texts, record.scheme)
            ]
            curve = sorted((r.bits, r.rejection_rate) for r in runs if r.scheme["scheme"] == "k-sqs")
            of_c = [
                at_bits(curve, r.bits) - r.rejection_rate for r in runs if setting_name(r.scheme) in settings
            ]
            if of_c:
                differences.append(sum(of_c) / len(of_c))
        compared = f"rejections in process: K-SQS at C-SQS's bits less C-SQS, temperature {temperature:g}"
        found.append(Finding(C_BETTER_AT_EQUAL_BITS, compared, "of tested tokens", estimate(differences)))
    return found
