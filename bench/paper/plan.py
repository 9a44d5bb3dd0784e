"""
What is measured for the paper's figures, as data.

The paper's captions name K = 2 and 3, β = 0.1 and 0.2, and adaptive beside frozen thresholds.
Its draft length, lattice resolution, η, α* and link are not in what is public of it besides, so those are
ours, and printed with every figure.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any

from bench.grid.cells import Plan, grid
from bench.grid.methods import Method, parse_method
from bench.scheme_steps import DRAFT_LENGTH, PROMPTS
from thinwire.common.schemes import SchemeParameters, scheme_parameters

STEP_PROMPTS = len(PROMPTS)
"""Prompts of the texts in process."""
FIXED = f"ell=100,gamma={DRAFT_LENGTH}"
"""ℓ and γ of every figure but the frontier, which varies ℓ: Thinwire's defaults."""
LOW_TEMPERATURE, HIGH_TEMPERATURE = 0.4, 0.8
"""What the claims call low (at most) and high (at least)."""
SETTING_NAMES = {
    "dense-qs": "ℓ = {lattice_resolution}",
    "k-sqs": "K = {support_size}",
    "c-sqs": "β = {initial_threshold:g}",
}

Sweep = tuple[str, Mapping[str, tuple[Any, ...]]]
"""A scheme and values of its parameters, which run in every combination; K_max is the temperature's."""


@dataclass(frozen=True, slots=True)
class PaperPlan:
    """How much is measured; the defaults are the whole of it."""

    name: str = "full"
    rate_up_bps: int = 64_000
    """
    Of the link; down is four times as much.

    A round's header alone takes 20 ms up and K = 32 as much again: bits matter, and do not hide all else.
    """
    rtt_s: float = 0.02
    temperatures: tuple[float, ...] = (0.2, 0.4, 0.6, 0.8, 1.0)
    """Of the figures with time in them."""
    seeds: int = 4
    """Texts a point, each with a prompt and a seed of its own; the same for every setting."""
    tokens: int = 64
    """N of each text."""
    settings: tuple[str, ...] = (
        *("k-sqs:K=1", "k-sqs:K=2", "k-sqs:K=3", "k-sqs:K=8", "k-sqs:K=32"),
        *("c-sqs:beta=0.02", "c-sqs:beta=0.05", "c-sqs:beta=0.1", "c-sqs:beta=0.2"),
        *("c-sqs:beta=0.1,frozen=1", "c-sqs:beta=0.2,frozen=1"),
    )
    """Of Figures 2, 4 and 5 and of Theorem 1; η, α* and K_max are the defaults."""
    sparse: tuple[str, ...] = ("K = 2", "K = 3")
    """The settings of k-sqs that Figure 2 and the claims compare, by name."""
    adaptive: tuple[str, ...] = ("β = 0.1", "β = 0.2")
    """The same of c-sqs, in Figure 5 and Theorem 2 too."""
    step_temperatures: tuple[float, ...] = (0.2, 0.6, 1.0)
    """Of Theorems 1 and 2 and of the frontier."""
    step_seeds: int = 3
    """Texts' and draws' seeds of the same."""
    texts_each: int = 4
    """Sequences of 100 tokens after each prompt of `bench.scheme_steps`; the frontier takes one of each."""
    sweeps: tuple[Sweep, ...] = (
        ("dense-qs", {"lattice_resolution": (25, 100, 400, 1024)}),
        ("k-sqs", {"lattice_resolution": (25, 100, 400), "support_size": (1, 2, 3, 8, 32, 128)}),
        (
            "c-sqs",
            {
                "initial_threshold": (0.1, 0.2),
                "threshold_step": (0.01, 0.05),
                "target_dropped_mass": (0.01, 0.05, 0.1, 0.3, 0.5, 0.7),
            },
        ),
        ("c-sqs", {"initial_threshold": (0.01, 0.02, 0.05, 0.1, 0.2), "frozen_threshold": (True,)}),
    )
    """What the frontier runs besides Theorem 1's settings."""
    self_test_probes: int | None = None
    self_test_flood_s: float | None = None

    def grid_plan(self) -> Plan:
        """The texts over a link, for the grid's runner; nothing is tuned and no text cut short."""
        return Plan(
            name=f"paper-{self.name}",
            cells=grid((self.rate_up_bps,), (self.rtt_s,), self.temperatures),
            prompts=self.seeds,
            tokens=self.tokens,
            tuning_prompts=0,
            tuning_tokens=0,
            tuning_candidates=0,
            tuned=(),
            slow_round_s=600.0,
            self_test_probes=self.self_test_probes,
            self_test_flood_s=self.self_test_flood_s,
        )

    @property
    def frozen(self) -> tuple[str, ...]:
        """What the adaptive settings are compared with."""
        return tuple(f"{name}, frozen" for name in self.adaptive)

    def methods(self) -> list[Method]:
        """The settings as the grid's methods."""
        return [parse_method(f"{setting},{FIXED}") for setting in self.settings]

    def theorem_schemes(self, temperature: float) -> list[SchemeParameters]:
        """Settings of Theorem 1's figure: those of the methods."""
        return [method.scheme(temperature, method.fixed) for method in self.methods()]

    @property
    def texts(self) -> int:
        """Sequences of a text in process."""
        return STEP_PROMPTS * self.texts_each

    def runs(self, temperature: float) -> list[tuple[int, SchemeParameters]]:
        """
        What runs over each text in process: (sequences of the text, setting), each once.

        Theorem 1's settings run over all of a text; they and those of the sweeps, for the frontier, over its
        first sequences.
        """
        theorem = self.theorem_schemes(temperature)
        swept = [
            scheme_parameters(name, temperature, **dict(zip(values, each, strict=True)))
            for name, values in self.sweeps
            for each in product(*values.values())
        ]
        runs = [(self.texts, scheme) for scheme in theorem]
        runs += [(STEP_PROMPTS, scheme) for scheme in (*theorem, *swept)]
        return list(dict.fromkeys(runs))


def scheme_fields(scheme: SchemeParameters) -> dict[str, Any]:
    """Every parameter as JSON."""
    return {"scheme": scheme.scheme, **scheme.values()}


def setting_name(scheme: Mapping[str, Any]) -> str:
    """A setting as the figures call it: K = 2; β = 0.1; β = 0.1, frozen; ℓ = 100 of dense-qs."""
    frozen = ", frozen" if scheme.get("frozen_threshold") else ""
    return SETTING_NAMES[scheme["scheme"]].format(**scheme) + frozen


PAPER = PaperPlan()
SMOKE = PaperPlan(
    name="smoke",
    temperatures=(0.2, 1.0),
    seeds=2,
    tokens=16,
    settings=("k-sqs:K=2", "c-sqs:beta=0.1", "c-sqs:beta=0.1,frozen=1"),
    sparse=("K = 2",),
    adaptive=("β = 0.1",),
    step_temperatures=(1.0,),
    step_seeds=2,
    texts_each=1,
    sweeps=(
        ("dense-qs", {}),
        ("k-sqs", {"support_size": (1, 8)}),
        (
            "c-sqs",
            {"initial_threshold": (0.1,), "threshold_step": (0.05,), "target_dropped_mass": (0.05,)},
        ),
    ),
    self_test_probes=3,
    self_test_flood_s=0.6,
)
PLANS = {plan.name: plan for plan in (PAPER, SMOKE)}
