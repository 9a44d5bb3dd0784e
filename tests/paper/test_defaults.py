"""The defaults of C-SQS keep Theorem 2's condition on the bundled pair: K_max hardly ever binds."""

from __future__ import annotations

import pytest

from bench.scheme_steps import Runs, make_rows, run_scheme
from thinwire.common.config import MAX_TEMPERATURE, SamplingParameters
from thinwire.common.schemes import scheme_parameters
from thinwire.common.schemes.c_sqs import DROPPED_MASS_DEFAULTS, CSqs
from thinwire.edge.report import CAP_BINDING_LIMIT


def test_the_defaults_cap_hardly_binds_at_temperature_1(runs: Runs) -> None:
    """Under 1 % of the steps, so the guarantee is reported and not void."""
    steps = runs.of(scheme_parameters("c-sqs", 1.0))

    assert steps.cap_binds.mean() < CAP_BINDING_LIMIT


@pytest.mark.parametrize("temperature", [0.3, 0.6])
def test_the_defaults_cap_hardly_binds_at_lower_temperatures(temperature: float) -> None:
    """The same on the target's own text at that temperature."""
    rows = make_rows(SamplingParameters(temperature=temperature))
    steps = run_scheme(rows, scheme_parameters("c-sqs", temperature))

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
            chosen = CSqs.Parameters.defaults(temperature)
            assert chosen.target_dropped_mass == row.target_dropped_mass
            assert chosen.max_support_size == row.max_support_size
    given = {"target_dropped_mass": 0.9, "max_support_size": 2}
    assert scheme_parameters("c-sqs", 0.3, **given) == CSqs.Parameters(**given)
    assert CSqs.Parameters.defaults(0.0).max_support_size == rows[0].max_support_size
