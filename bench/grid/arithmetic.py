"""
The time of a round by arithmetic (`bench.round_time`), with guesses for what is not measured yet.

It picks what tuning tries first, finds rounds too slow to run many of, and makes the estimate that is printed
before a run. No result depends on it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from bench import round_time
from bench.grid.cells import Cell, Plan
from bench.grid.methods import OWN_SCHEDULE, Method, Parameters
from bench.grid.transfer import trial_name, trials
from bench.peers.messages import ASSISTED
from bench.peers.pacing import Pacing

ROUND_UP_BYTES, ROUND_DOWN_BYTES = (round_time.ROUND_HEADER_BYTES + message for message in (22, 24))
"""Wire bytes of a round without its payload, both ways."""
TOKEN_DOWN_BYTES, TOKEN_UP_BYTES = round_time.STREAM_HEADER_BYTES + 10, round_time.ACK_BYTES
"""Wire bytes of a streamed token and its ACK."""
OPENING_UP_BYTES = 500
"""Prompt and headers of a text."""
SETTLE_S = 0.35
"""Between texts, for the counters to stand still."""
START_S = 25.0
"""A link, its self-test and its daemons."""
ACCEPTANCE = 0.65
"""A guess for the bundled pair, whatever the scheme and the temperature."""
THRESHOLD_SUPPORT = 10
"""A guess for K⁺ of c-sqs."""
VOCABULARY_SIZE = 8192
"""The bundled pair's."""
UNKNOWN_BITS = 200.0
"""A guess for schemes that this module does not know."""


@dataclass(frozen=True, slots=True)
class Costs:
    """Seconds of the bundled pair on two cores, from its model card, generously."""

    draft_token_s: float = 0.003
    target_pass_s: float = 0.010
    target_token_s: float = 0.0005
    prompt_pass_s: float = 0.05
    pacing: Pacing = field(default_factory=Pacing)

    def target_s(self, tokens: int) -> float:
        """Seconds of a target pass."""
        return max(self.target_pass_s + self.target_token_s * tokens, self.pacing.due_s(tokens))


def token_bits(method: Method, parameters: Parameters, temperature: float) -> float:
    """Payload bits of a drafted token, near enough."""
    if method.is_peer:
        return 0.0
    values = method.scheme(temperature, parameters).values()
    supports = {
        "dense-qs": VOCABULARY_SIZE,
        "k-sqs": values.get("support_size"),
        "c-sqs": THRESHOLD_SUPPORT,
    }
    if method.way == "dense-f16":
        return 16.0 * VOCABULARY_SIZE + 16
    if (size := supports.get(method.way)) is None:
        return UNKNOWN_BITS
    ell = values["lattice_resolution"]
    points = math.comb(VOCABULARY_SIZE, size) * math.comb(ell + size - 1, size - 1)
    return math.log2(points) + math.log2(max(2, min(size, ell)))


def round_s(cell: Cell, method: Method, parameters: Parameters, costs: Costs) -> float:
    """Seconds of one round; of a streamed baseline, of one target pass."""
    length = _length(method, parameters)
    work_s = length * costs.draft_token_s + costs.target_s(length + 1)
    if method.is_peer:
        down_s = tokens_per_round(method, parameters) * TOKEN_DOWN_BYTES * 8 / cell.rate_down_bps
        return max(work_s, down_s, TOKEN_UP_BYTES * 8 / cell.rate_up_bps)
    payload_bytes = length * token_bits(method, parameters, cell.temperature) / 8
    return work_s + round_time.lines_s(cell, ROUND_UP_BYTES + payload_bytes, ROUND_DOWN_BYTES)


def tokens_per_round(method: Method, parameters: Parameters) -> float:
    """Output tokens where each draft behind an accepted one is accepted with the same probability: Σ aᵏ."""
    return sum(ACCEPTANCE**k for k in range(_length(method, parameters) + 1))


def token_s(cell: Cell, method: Method, parameters: Parameters, costs: Costs) -> float:
    """Seconds of an output token."""
    return round_s(cell, method, parameters, costs) / tokens_per_round(method, parameters)


def is_slow(cell: Cell, method: Method, parameters: Parameters, plan: Plan, costs: Costs) -> bool:
    """Whether a round is so slow that only a few are run."""
    return round_s(cell, method, parameters, costs) > plan.slow_round_s


def tokens_to_run(cell: Cell, method: Method, parameters: Parameters, plan: Plan, costs: Costs) -> int:
    """N, or as many tokens as the plan's few rounds are likely to give."""
    if not is_slow(cell, method, parameters, plan, costs):
        return plan.tokens
    return min(plan.tokens, math.ceil(plan.short_rounds * tokens_per_round(method, parameters)))


def text_s(cell: Cell, method: Method, parameters: Parameters, tokens: int, costs: Costs) -> float:
    """Seconds of one text, from request to settled counters."""
    opening_s = 8 * OPENING_UP_BYTES / cell.rate_up_bps + 2 * cell.rtt_s
    prompt_s = max(costs.prompt_pass_s, costs.pacing.due_s(100))
    return opening_s + prompt_s + tokens * token_s(cell, method, parameters, costs) + SETTLE_S


# --- tuning in a cell ---------------------------------------------------------------------------------------


def best_first(
    cell: Cell, method: Method, start: Parameters, axis: str, values: Iterable[Any], costs: Costs
) -> list[Any]:
    """The values of one parameter, the likeliest to be fast first; the others as in `start`."""
    return sorted(values, key=lambda value: token_s(cell, method, {**start, axis: value}, costs))


def by_arithmetic(cell: Cell, method: Method, tuned: Sequence[str], costs: Costs) -> dict[str, Any]:
    """What the arithmetic alone would choose; of ℓ, K and β it knows the cost and not the worth."""
    parameters = method.defaults()
    if "draft_length" in tuned and method.drafts_openly:
        lengths = [value for value in method.axes["draft_length"] if value != OWN_SCHEDULE]
        parameters["draft_length"] = best_first(cell, method, parameters, "draft_length", lengths, costs)[0]
    return parameters


def tune(
    cell: Cell, method: Method, plan: Plan, costs: Costs, run: Callable[[Parameters], float | None]
) -> tuple[dict[str, Any], str]:
    """
    The parameters a method is measured with: one after the other, the others as they stand.

    Of each the values that the arithmetic likes best are run, and the fastest per output token stays. None of
    them makes rounds slow, unless it stands already: the arithmetic knows that those lose.

    Args:
        run: the tuning prompts with some parameters; seconds per output token, None if it failed.

    Returns:
        parameters, and where they come from: "name" (nothing was open), "arithmetic" or "measured".
    """
    open_axes = [axis for axis in method.axes if axis in plan.tuned]
    parameters = by_arithmetic(cell, method, plan.tuned, costs)
    if not open_axes:
        return parameters, "name"
    if plan.tuning_candidates == 0 or is_slow(cell, method, parameters, plan, costs):
        return parameters, "arithmetic"
    seconds: dict[str, float | None] = {}
    for axis in open_axes:
        values = best_first(cell, method, parameters, axis, method.axes[axis], costs)
        found = [{**parameters, axis: value} for value in values]
        known = [one for one in found if one == parameters or not is_slow(cell, method, one, plan, costs)]
        scored = []
        for candidate in known[: plan.tuning_candidates]:
            name = trial_name(candidate)
            if name not in seconds:
                seconds[name] = run(candidate)
            if (token_seconds := seconds[name]) is not None:
                scored.append((token_seconds, candidate))
        parameters = min(scored, key=lambda pair: pair[0], default=(0.0, parameters))[1]
    return parameters, "measured"


def tuning_texts(cell: Cell, method: Method, plan: Plan, costs: Costs) -> list[Parameters]:
    """Every setting that tuning runs in a cell, once for each tuning prompt; none by transfer."""
    tried: list[Parameters] = []
    tune(cell, method, plan, costs, tried.append)
    return tried


# --- a whole plan -------------------------------------------------------------------------------------------


def checked_lengths(cell: Cell, method: Method, plan: Plan) -> tuple[int, ...]:
    """Draft lengths that are run in a cell to see what the transfer was worth; none of naive ones."""
    if cell not in plan.checked or method.is_peer or method.way == "dense-f16":
        return ()
    return tuple(method.axes.get("draft_length", ()))


def transfer_texts(plan: Plan, methods: Sequence[Method]) -> Iterator[tuple[Cell, Method, Parameters]]:
    """Every setting that tuning by transfer runs on its link, once for each tuning prompt."""
    for cell in plan.tuning_cells:
        for method in methods:
            for parameters in trials(method, plan):
                yield cell, method, parameters


class Estimate(NamedTuple):
    """How long a plan takes, daemons and self-tests included."""

    texts: int
    tuning_texts: int
    links: int
    seconds: float

    def __str__(self) -> str:
        length = f"{self.seconds / 60:.0f} min" if self.seconds < 5400 else f"{self.seconds / 3600:.1f} h"
        return (
            f"about {length}: {self.texts} texts and {self.tuning_texts} tuning texts on {self.links} links "
            f"(by arithmetic for an idle machine of two cores)"
        )


def estimate(
    plan: Plan, methods: Sequence[Method], costs: Costs, links: Sequence[Sequence[Cell]] | None = None
) -> Estimate:
    """Of some of a plan's links; None for all. Measured with what the arithmetic alone would choose."""
    links = plan.links if links is None else links
    cells = [cell for link in links for cell in link]
    tuned = [text for text in transfer_texts(plan, methods) if text[0] in cells]
    seconds = START_S * len(links)
    for cell in cells:
        for method in methods:
            tuned += [(cell, method, one) for one in tuning_texts(cell, method, plan, costs)]
            lengths = checked_lengths(cell, method, plan)
            tuned += [(cell, method, {**method.defaults(), "draft_length": length}) for length in lengths]
            parameters = by_arithmetic(cell, method, plan.tuned, costs)
            tokens = tokens_to_run(cell, method, parameters, plan, costs)
            seconds += plan.prompts * text_s(cell, method, parameters, tokens, costs)
    seconds += plan.tuning_prompts * sum(text_s(*text, plan.tuning_tokens, costs) for text in tuned)
    texts = len(cells) * len(methods) * plan.prompts
    return Estimate(texts, plan.tuning_prompts * len(tuned), len(links), seconds)


def _length(method: Method, parameters: Parameters) -> int:
    length = int(parameters.get("draft_length", 0))
    return 6 if method.way == ASSISTED and length == OWN_SCHEDULE else length
