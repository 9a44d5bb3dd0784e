"""
Chooses the defaults of C-SQS from the bundled pair: α* and K_max by temperature.

    python -m bench.c_sqs_defaults

Theorem 2 is void where K_max cuts the support that the threshold asked for, so the defaults must let that
happen on fewer than 1 % of the steps.
For every temperature the text is the target's own at that temperature; adaptive C-SQS runs over it with the
default β_1 and η, for each α* and K_max of the grid.
Chosen is the smallest α* that some K_max of the grid keeps within the limit, with the smallest such K_max:
the best acceptance that keeps the guarantee, and no larger support than it needs.
"""

from __future__ import annotations

import sys

from bench.markdown import table
from bench.scheme_steps import Rows, make_rows, run_scheme
from thinwire.common.config import SamplingParameters
from thinwire.common.schemes.c_sqs import DROPPED_MASS_DEFAULTS, CSqs

TEMPERATURES = (0.3, 0.6, 1.0, 1.5)
TARGETS = (0.01, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)
CAPS = (64, 256)
CHOSEN_LIMIT = 0.0005
"""
Share of steps on which K_max may bind: 1 % is allowed, and less is asked of a default, since other text than
this one will be drafted: a cap that bound on 0.06 % of these steps bound on 1 % of another text's.
"""
HEAD = ("temperature", "α*", "K_max", "cap binds", "mean dropped mass", "acceptance", "bits", "mean K⁺")


def trial(rows: Rows, temperature: float, target: float, cap: int) -> tuple[float, list[str]]:
    """One setting over one text: the share of steps on which K_max binds, and its row of the table."""
    steps = run_scheme(rows, CSqs.Parameters(target_dropped_mass=target, max_support_size=cap))
    binding = float(steps.cap_binds.mean())
    bits = 8 * sum(len(block.payload) for block in steps.blocks) / rows.steps
    return binding, [
        *(f"{temperature}", f"{target}", f"{cap}", f"{100 * binding:.2f} %"),
        *(f"{steps.dropped_mass.mean():.4f}", f"{1 - steps.lattice_distance.mean():.3f}"),
        *(f"{bits:.0f}", f"{steps.wire_support_size.mean():.1f}"),
    ]


def trials(temperature: float) -> list[tuple[float, list[str]]]:
    """Every setting up to the smallest α* that is within the limit; a larger one only drops more."""
    print(f"temperature {temperature}", file=sys.stderr, flush=True)
    rows, found = make_rows(SamplingParameters(temperature=temperature)), []
    for target in TARGETS:
        found += [trial(rows, temperature, target, cap) for cap in CAPS]
        if found[-len(CAPS)][0] < CHOSEN_LIMIT:
            break
    return found


def main() -> None:
    """Print every trial, then the choice of each temperature beside what is shipped."""
    tried = [trials(temperature) for temperature in TEMPERATURES]
    print(table(HEAD, [row for found in tried for _, row in found], left=0))
    # The first within the limit, or else the one whose cap binds least.
    choices = [min(found, key=lambda one: max(one[0], CHOSEN_LIMIT))[1] for found in tried]
    print(f"\nChosen:\n\n{table(HEAD, choices, left=0)}\n\nShipped: {DROPPED_MASS_DEFAULTS}")


if __name__ == "__main__":
    main()
