"""The grid as data: links, temperatures, and how much is run of each."""

from __future__ import annotations

import itertools
from collections.abc import Collection
from dataclasses import astuple, dataclass, replace

from bench.peers.pacing import Pacing
from link.description import LinkDescription
from thinwire.common.errors import ConfigError

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
    def line(self) -> tuple[int, float]:
        """Rate up and round trip: cells of one line are run on one link."""
        return self.rate_up_bps, self.rtt_s

    @property
    def link(self) -> LinkDescription:
        """The cell's link."""
        return LinkDescription(self.rate_up_bps, self.rate_down_bps, self.rtt_s)

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
    tuning_prompts: int = 0
    """From the tail of the prompt file; never among the measured ones."""
    tuning_tokens: int = 0
    tuning_candidates: int = 0
    """Values tried of each tuned parameter, the likeliest first; 0 tunes by arithmetic alone."""
    tuned: tuple[str, ...] = ("draft_length",)
    """Parameters that are tuned where a method's name leaves them open; the others keep their defaults."""
    slow_round_s: float = 5.0
    """A method whose round takes longer in a cell runs `short_rounds` rounds there and is marked 'short'."""
    short_rounds: int = 8
    methods: tuple[str, ...] = ()
    """Names; empty for `methods.DEFAULT_METHODS`."""
    self_test_probes: int | None = None
    """Probes of the link's self-test; None for the link's own number."""
    self_test_flood_s: float | None = None
    """Seconds of the link's self-test at full rate; None for the link's own time."""
    tuning_link: tuple[int, float] | None = None
    """`Cell.line` of the link whose trials tune every cell (`transfer`); None tunes in each cell."""
    checked: tuple[Cell, ...] = ()
    """Off the tuning link: cells where every draft length is run too, to see what the transfer was worth."""
    pacings: tuple[Pacing, ...] = ()
    """Pass times, each a run of its own (`pass_times`); empty for one run, paced as its settings say."""

    def __post_init__(self) -> None:
        if self.tuning_link is not None and self.tuning_link not in {cell.line for cell in self.cells}:
            raise ValueError(f"tuning_link is {self.tuning_link}; expected a link of the plan's cells.")

    @property
    def links(self) -> tuple[tuple[Cell, ...], ...]:
        """Cells by link: the tuning link first, then in the plan's order."""
        lines = dict.fromkeys(cell.line for cell in self.cells)
        if self.tuning_link is not None:
            lines = {self.tuning_link: None, **lines}
        return tuple(tuple(cell for cell in self.cells if cell.line == line) for line in lines)

    @property
    def tuning_cells(self) -> tuple[Cell, ...]:
        """The tuning link with each of the plan's temperatures; none without one."""
        temperatures = sorted({cell.temperature for cell in self.cells})
        return tuple(Cell(*self.tuning_link, t) for t in temperatures) if self.tuning_link else ()

    def part(
        self,
        rates_up_bps: Collection[int],
        rtts_s: Collection[float],
        temperatures: Collection[float],
        passes_s: Collection[float] = (),
    ) -> Plan:
        """
        The cells with these rates, round trips and temperatures, and these pass times; empty ones mean all.

        A tuning link that is not among them becomes the fastest that is.

        Raises:
            ConfigError: no cell is left, or no pass time.
        """
        pacings = tuple(p for p in self.pacings if not passes_s or p.base_s in passes_s)
        if passes_s and not pacings:
            known = [f"{pacing.base_s * 1000:g}" for pacing in self.pacings]
            raise ConfigError(
                f"no pass time of {self.name} is in {[1000 * one for one in passes_s]} ms; expected some of "
                f"{', '.join(known) or 'none, as --paced says it'}."
            )
        wanted = (rates_up_bps, rtts_s, temperatures)
        cells = tuple(
            cell
            for cell in self.cells
            if all(not some or value in some for value, some in zip(astuple(cell), wanted, strict=True))
        )
        if not cells:
            raise ConfigError(
                f"no cell of {self.name} has a rate up in {list(rates_up_bps)}, a round trip in "
                f"{list(rtts_s)} and a temperature in {list(temperatures)}; expected values of the plan's."
            )
        lines, tuning_link = {cell.line for cell in cells}, self.tuning_link
        if tuning_link is not None and tuning_link not in lines:
            tuning_link = max(lines, key=lambda line: (line[0], -line[1]))
        checked = tuple(cell for cell in self.checked if cell in cells and cell.line != tuning_link)
        return replace(self, cells=cells, tuning_link=tuning_link, checked=checked, pacings=pacings)


SMOKE = Plan(
    name="smoke",
    cells=grid((512_000,), (0.04,), (1.0,)),
    prompts=1,
    tokens=16,
    slow_round_s=1.0,
    short_rounds=4,
    methods=("cloud-stream", "cloud-generate", "cloud-assisted", "cloud-ar", "k-sqs:K=8", "c-sqs"),
    self_test_probes=3,
    self_test_flood_s=0.6,
)
SHORT = Plan(
    name="short",
    cells=grid((32_000, 512_000, 20_000_000), (0.04,), (0.3, 1.0)),
    prompts=3,
    tokens=32,
    tuning_prompts=1,
    tuning_tokens=16,
    tuning_candidates=2,
    # About ten minutes in all: a naive dense round takes 4 s on the slowest link.
    slow_round_s=1.0,
    short_rounds=4,
)
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
HOUR = replace(
    FULL,
    name="hour",
    prompts=3,
    tokens=24,
    tuning_tokens=48,
    tuning_candidates=0,
    slow_round_s=1.0,
    short_rounds=4,
    tuning_link=(20_000_000, 0.005),
    checked=(Cell(32_000, 0.04, 1.0), Cell(512_000, 0.04, 0.3), Cell(512_000, 0.15, 1.0)),
)
"""The same cells and methods as `FULL`, tuned by transfer, shorter texts and fewer of them."""
FREE = replace(
    HOUR,
    name="free",
    prompts=5,
    tokens=96,
    # Of fixed parameters but k-sqs's γ; ℓ of k-sqs stays its default, 100.
    methods=("cloud-stream", "cloud-assisted:gamma=6", "coupled", "coupled:objective=cloud", "k-sqs:K=8"),
    tuned=("draft_length",),
    checked=(),
    pacings=(Pacing(), Pacing(0.06, 0.002), Pacing(0.12, 0.002)),
)
"""The same cells at three pass times: a cloud that writes by itself beside what it competes with."""
PLANS = {plan.name: plan for plan in (SMOKE, SHORT, HOUR, FREE, FULL)}
