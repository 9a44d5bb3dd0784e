"""The text and its laws, made once a session."""

from __future__ import annotations

import pytest

from bench.scheme_steps import Runs, make_rows


@pytest.fixture(scope="session")
def runs() -> Runs:
    """Runs of any scheme over at least 3 000 steps of the bundled pair's text."""
    rows = make_rows()
    assert rows.steps >= 3000
    return Runs(rows)


@pytest.fixture(scope="session")
def uncapped_runs(runs: Runs) -> Runs:
    """The same text under top-k sampling with k below the largest K_max, so that the cap cannot bind."""
    return Runs(runs.rows.narrowed(250))
