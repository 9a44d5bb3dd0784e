"""The grid as data: links, temperatures, and how much is run of each."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

from bench.link.description import LinkDescription

DOWN_PER_UP = 4
"""The downlink has four times the uplink's rate."""


@dataclass(frozen=True, slots=True, order=True)
class Cell:
    """One link and one temperature."""

    rate_up_bps: int
    rtt_s: float
    temperature: float

    @property
    def rate_down_bps(self) -> int:
        """Cloud to edge."""
        return DOWN_PER_UP * self.rate_up_bps

    @property
    def link(self) -> LinkDescription:
        """The cell's link."""
        return LinkDescription(
            rate_up_bps=self.rate_up_bps, rate_down_bps=self.rate_down_bps, rtt_s=self.rtt_s
        )

    def __str__(self) -> str:
        rate = f"{rate_text(self.rate_up_bps)} up, {rate_text(self.rate_down_bps)} down"
        return f"{rate}, RTT {self.rtt_s * 1000:g} ms, temperature {self.temperature:g}"


def rate_text(rate_bps: int) -> str:
    """32 kbit/s, 2 Mbit/s."""
    return f"{rate_bps / 1e6:g} Mbit/s" if rate_bps >= 1_000_000 else f"{rate_bps / 1e3:g} kbit/s"


def grid(
    rates_up_bps: tuple[int, ...], rtts_s: tuple[float, ...], temperatures: tuple[float, ...]
) -> tuple[Cell, ...]:
    """Every combination; cells of one link stand together."""
    return tuple(itertools.starmap(Cell, itertools.product(rates_up_bps, rtts_s, temperatures)))


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is run."""

    name: str
    cells: tuple[Cell, ...]
    prompts: int
    """From the head of the prompt file; every method gets the same."""
    tokens: int
    """N, of each text."""
    tuning_prompts: int
    """From the tail of the prompt file; never among the measured ones."""
    tuning_tokens: int
    tuning_candidates: int
    """Values tried of each tuned parameter, the likeliest first; 0 tunes by arithmetic alone."""
    tuned: tuple[str, ...]
    """Parameters that are tuned where a method's name leaves them open; the others keep their defaults."""
    slow_round_s: float = 5.0
    """A method whose round takes longer in a cell runs `short_rounds` rounds there and is marked 'short'."""
    short_rounds: int = 8
    methods: tuple[str, ...] = ()
    """Names; empty for `methods.DEFAULT_METHODS`."""
    self_test_probes: int | None = None
    """Of the link; None for the link's own number."""
    self_test_flood_s: float | None = None
    """Of the link; None for the link's own time."""

    @property
    def links(self) -> tuple[tuple[Cell, ...], ...]:
        """Cells by link, in the plan's order."""
        by_link: dict[tuple[int, float], list[Cell]] = {}
        for cell in self.cells:
            by_link.setdefault((cell.rate_up_bps, cell.rtt_s), []).append(cell)
        return tuple(tuple(cells) for cells in by_link.values())


FULL = Plan(
    name="full",
    cells=grid((32_000, 128_000, 512_000, 2_000_000, 20_000_000), (0.005, 0.04, 0.15), (0.3, 0.6, 1.0)),
    prompts=5,
    tokens=64,
    tuning_prompts=2,
    tuning_tokens=24,
    tuning_candidates=8,
    tuned=("draft_length", "lattice_resolution", "support_size", "initial_threshold"),
)
SHORT = Plan(
    name="short",
    cells=grid((32_000, 512_000, 20_000_000), (0.04,), (0.3, 1.0)),
    prompts=3,
    tokens=32,
    tuning_prompts=1,
    tuning_tokens=16,
    tuning_candidates=2,
    tuned=("draft_length",),
    # About ten minutes in all: a naive dense round takes 4 s on the slowest link.
    slow_round_s=1.0,
    short_rounds=4,
)
SMOKE = Plan(
    name="smoke",
    cells=grid((512_000,), (0.04,), (1.0,)),
    prompts=1,
    tokens=16,
    tuning_prompts=0,
    tuning_tokens=0,
    tuning_candidates=0,
    tuned=("draft_length",),
    slow_round_s=1.0,
    short_rounds=4,
    methods=("cloud-stream", "cloud-generate", "cloud-assisted", "cloud-ar", "k-sqs:K=8", "c-sqs"),
    self_test_probes=3,
    self_test_flood_s=0.6,
)
PLANS = {plan.name: plan for plan in (SMOKE, SHORT, FULL)}
