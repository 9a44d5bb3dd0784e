"""Pacing: max(measured, a + b * tokens), on a clock that is moved by hand."""

from __future__ import annotations

import pytest

from bench.peers.pacing import Pacer, Pacing
from fakes import ManualClock
from thinwire.common.errors import ConfigError


@pytest.mark.parametrize(
    ("took_s", "tokens", "lasted_s"),
    [
        pytest.param(0.01, 1, 0.102, id="a fast pass is drawn out"),
        pytest.param(0.01, 5, 0.11, id="each token costs b more"),
        pytest.param(0.3, 5, 0.3, id="a slow pass stays as it is"),
    ],
)
def test_a_pass_lasts_the_longer_of_measured_and_due(took_s: float, tokens: int, lasted_s: float) -> None:
    """a = 100 ms, b = 2 ms; both times are reported."""
    clock = ManualClock()
    pacer = Pacer(Pacing(0.1, 0.002), clock=clock, sleep=clock.advance)
    pacer.begin()
    clock.advance(took_s)

    taken = pacer.end(tokens)

    assert taken.measured_s == pytest.approx(took_s)
    assert taken.lasted_s == pytest.approx(lasted_s)


def test_without_pacing_nothing_waits() -> None:
    """Not even for 0 seconds."""
    clock = ManualClock()
    slept: list[float] = []
    pacer = Pacer(Pacing(), clock=clock, sleep=slept.append)
    pacer.begin()

    pacer.end(100)

    assert slept == []


def test_the_argument_is_in_milliseconds_and_comes_back() -> None:
    """What the benchmark hands to its daemons is what it was given."""
    pacing = Pacing.parse("120,2.5")

    assert pacing == Pacing(0.12, 0.0025)
    assert Pacing.parse(pacing.as_argument()) == pacing
    assert str(pacing) == "paced: a target pass lasts max(measured, 120 ms + 2.5 ms x tokens)"


@pytest.mark.parametrize("text", ["", "5", "a,b", "1,2,3", "-1,0", "nan,0", "0,100000"])
def test_a_bad_pacing_is_refused(text: str) -> None:
    """With what was expected."""
    with pytest.raises(ConfigError, match="expected"):
        Pacing.parse(text)
