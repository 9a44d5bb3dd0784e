"""
Chooses a method's open parameters in a cell, on prompts that are not measured.

One parameter after the other, the others as they stand: of each the values that the arithmetic likes best are
run, and the fastest per output token stays.
None of them makes rounds slow: the arithmetic knows that those lose.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from bench.grid.arithmetic import Costs, by_arithmetic, candidates, is_slow
from bench.grid.cells import Cell, Plan
from bench.grid.methods import Method
from bench.grid.transfer import trial_name

Try = Callable[[Mapping[str, Any]], float | None]
"""Parameters → seconds per output token over the tuning prompts; None if it failed."""


def tune(cell: Cell, method: Method, plan: Plan, costs: Costs, run: Try) -> tuple[dict[str, Any], str]:
    """
    The parameters a method is measured with.

    Args:
        run: runs the tuning prompts.

    Returns:
        parameters, and where they come from: "name" (nothing was open), "arithmetic" or "measured".
    """
    open_axes = [axis for axis in method.axes if axis in plan.tuned]
    parameters = by_arithmetic(cell, method, plan.tuned, costs)
    if not open_axes:
        return parameters, "name"
    if plan.tuning_candidates == 0 or is_slow(cell, method, parameters, plan, costs):
        return parameters, "arithmetic"
    seen: dict[str, float | None] = {}
    for axis in open_axes:
        scored = []
        for candidate in candidates(cell, method, parameters, axis, plan, costs):
            name = trial_name(candidate)
            if name not in seen:
                seen[name] = run(candidate)
            seconds = seen[name]
            if seconds is not None:
                scored.append((seconds, candidate))
        if scored:
            parameters = min(scored, key=lambda pair: pair[0])[1]
    return parameters, "measured"
