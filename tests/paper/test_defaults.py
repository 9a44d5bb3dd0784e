"""The defaults of C-SQS keep Theorem 2's condition on the bundled pair: K_max hardly ever binds."""

from __future__ import annotations

import pytest

from bench.scheme_steps import Runs, make_rows, run_scheme
from thinwire.common.config import DROPPED_MASS_DEFAULTS, MAX_TEMPERATURE, SamplingParameters, default_scheme
from thinwire.edge.report import CAP_BINDING_LIMIT


def test_the_defaults_cap_hardly_binds_at_temperature_1(runs: Runs) -> None:
    """Under 1 % of the steps, so the guarantee is reported and not void."""
    steps = runs.of(default_scheme(1.0, scheme="c-sqs"))

    assert steps.cap_binds.mean() < CAP_BINDING_LIMIT


@pytest.mark.parametrize("temperature", [0.3, 0.6])
def test_the_defaults_cap_hardly_binds_at_lower_temperatures(temperature: float) -> None:
    """The same on the target's own text at that temperature."""
    rows = make_rows(SamplingParameters(temperature=temperature))
    steps = run_scheme(rows, default_scheme(temperature, scheme="c-sqs"))

    assert rows.steps >= 3000
    assert steps.cap_binds.mean() < CAP_BINDING_LIMIT


def test_every_temperature_has_a_default() -> None:
    """Rows ascend up to the highest legal temperature; what is given wins over them."""
    rows = DROPPED_MASS_DEFAULTS
    temperatures = [row.temperature for row in rows]

    assert temperatures == sorted(set(temperatures))
    assert temperatures[-1] == MAX_TEMPERATURE
    for lower, row in zip([0.0, *temperatures], rows, strict=False):
        for temperature in (lower + 1e-9, row.temperature):
            chosen = default_scheme(temperature)
            assert chosen.target_dropped_mass == row.target_dropped_mass
            assert chosen.max_support_size == row.max_support_size
    assert default_scheme(0.3, target_dropped_mass=0.9, max_support_size=2).target_dropped_mass == 0.9
    assert default_scheme(0.0).max_support_size == rows[0].max_support_size
