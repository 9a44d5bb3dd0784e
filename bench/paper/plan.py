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
from thinwire.common.schemes import SchemeParameters, scheme_parameters

DRAFT_LENGTH = 4
"""γ of every figure, Thinwire's default; `bench.scheme_steps` codes blocks of as many."""
LATTICE_RESOLUTION = 100
"""ℓ where a figure does not vary it, Thinwire's default."""
STEP_PROMPTS = 8
"""Prompts of `bench.scheme_steps`."""
LOW_TEMPERATURE, HIGH_TEMPERATURE = 0.4, 0.8
"""What the claims call low (at most) and high (at least)."""


@dataclass(frozen=True, slots=True)
class Sweep:
    """Settings of one sparse scheme or dense-qs that the frontier runs, every combination."""

    lattice_resolutions: tuple[int, ...] = (LATTICE_RESOLUTION,)
    support_sizes: tuple[int, ...] = ()
    """K of k-sqs."""
    thresholds: tuple[float, ...] = ()
    """β_1 of c-sqs."""
    threshold_steps: tuple[float, ...] = ()
    """η of c-sqs; none is frozen."""
    target_dropped_masses: tuple[float, ...] = ()
    """α* of c-sqs."""

    def schemes(self, temperature: float) -> list[SchemeParameters]:
        """Every combination; K_max is that of the temperature."""
        found: list[dict[str, Any]] = []
        for ell in self.lattice_resolutions:
            if not (self.support_sizes or self.thresholds):
                found.append({"scheme": "dense-qs", "lattice_resolution": ell})
            for size in self.support_sizes:
                found.append({"scheme": "k-sqs", "lattice_resolution": ell, "support_size": size})
            for beta in self.thresholds:
                given = {"scheme": "c-sqs", "lattice_resolution": ell, "initial_threshold": beta}
                if not self.threshold_steps:
                    found.append({**given, "frozen_threshold": True})
                for eta, target in product(self.threshold_steps, self.target_dropped_masses):
                    found.append({**given, "threshold_step": eta, "target_dropped_mass": target})
        return [_scheme(temperature, **given) for given in found]


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
    support_sizes: tuple[int, ...] = (1, 2, 3, 8, 32)
    """K of Figure 4."""
    thresholds: tuple[float, ...] = (0.02, 0.05, 0.1, 0.2)
    """β of Figure 4."""
    compared_support_sizes: tuple[int, ...] = (2, 3)
    """K of Figure 2."""
    compared_thresholds: tuple[float, ...] = (0.1, 0.2)
    """β of Figures 2 and 5, of Theorem 2 and of the claims."""
    step_temperatures: tuple[float, ...] = (0.2, 0.6, 1.0)
    """Of Theorems 1 and 2 and of the frontier."""
    step_seeds: int = 3
    """Texts' and draws' seeds of the same."""
    texts_each: int = 4
    """Sequences of 100 tokens after each prompt of `bench.scheme_steps`; the frontier takes one of each."""
    sweeps: tuple[Sweep, ...] = (
        Sweep(lattice_resolutions=(25, 100, 400, 1024)),
        Sweep(lattice_resolutions=(25, 100, 400), support_sizes=(1, 2, 3, 8, 32, 128)),
        Sweep(
            thresholds=(0.1, 0.2),
            threshold_steps=(0.01, 0.05),
            target_dropped_masses=(0.01, 0.05, 0.1, 0.3, 0.5, 0.7),
        ),
        Sweep(thresholds=(0.01, 0.02, 0.05, 0.1, 0.2)),
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

    def methods(self) -> list[Method]:
        """The settings of Figures 2, 4 and 5 by the grid's names; η, α* and K_max are the defaults."""
        fixed = f"ell={LATTICE_RESOLUTION},gamma={DRAFT_LENGTH}"
        names = [f"k-sqs:K={size},{fixed}" for size in self.support_sizes]
        names += [f"c-sqs:beta={beta:g},{fixed}" for beta in self.thresholds]
        names += [f"c-sqs:beta={beta:g},frozen=1,{fixed}" for beta in self.compared_thresholds]
        return [parse_method(name) for name in names]

    def theorem_schemes(self, temperature: float) -> list[SchemeParameters]:
        """Settings of Theorem 1's figure: those of the methods."""
        return [method.scheme(temperature, method.fixed) for method in self.methods()]

    @property
    def texts(self) -> int:
        """Sequences of a text in process."""
        return STEP_PROMPTS * self.texts_each

    def is_theorem_run(self, temperature: float, texts: int, scheme: Mapping[str, Any]) -> bool:
        """Whether a run in process is over a whole text with one of Theorem 1's settings."""
        settings = self.theorem_schemes(temperature)
        return texts == self.texts and any(scheme == scheme_fields(other) for other in settings)

    def frontier_schemes(self, temperature: float) -> list[SchemeParameters]:
        """Settings of the frontier, Theorem 1's among them."""
        swept = (scheme for sweep in self.sweeps for scheme in sweep.schemes(temperature))
        return list(dict.fromkeys((*self.theorem_schemes(temperature), *swept)))


def scheme_fields(scheme: SchemeParameters) -> dict[str, Any]:
    """Every parameter as JSON."""
    return {"scheme": scheme.scheme, **scheme.values()}


def setting_name(scheme: Mapping[str, Any]) -> str:
    """A setting as the figures call it: K = 2; β = 0.1; β = 0.1, frozen; ℓ = 100 of dense-qs."""
    match scheme["scheme"]:
        case "k-sqs":
            return f"K = {scheme['support_size']}"
        case "c-sqs":
            frozen = ", frozen" if scheme["frozen_threshold"] else ""
            return f"β = {scheme['initial_threshold']:g}{frozen}"
        case _:
            return f"ℓ = {scheme['lattice_resolution']}"


def _scheme(temperature: float, **given: Any) -> SchemeParameters:
    return scheme_parameters(given.pop("scheme"), temperature, **given)


PAPER = PaperPlan()
SMOKE = PaperPlan(
    name="smoke",
    temperatures=(0.2, 1.0),
    seeds=2,
    tokens=16,
    support_sizes=(2,),
    thresholds=(0.1,),
    compared_support_sizes=(2,),
    compared_thresholds=(0.1,),
    step_temperatures=(1.0,),
    step_seeds=2,
    texts_each=1,
    sweeps=(
        Sweep(),
        Sweep(support_sizes=(1, 8)),
        Sweep(thresholds=(0.1,), threshold_steps=(0.05,), target_dropped_masses=(0.05,)),
    ),
    self_test_probes=3,
    self_test_flood_s=0.6,
)
PLANS = {plan.name: plan for plan in (PAPER, SMOKE)}
