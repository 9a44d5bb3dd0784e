"""What `auto` takes: by objective, by what was measured, by what the cloud serves."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from thinwire.common.config import SamplingParameters
from thinwire.common.errors import ConfigError
from thinwire.common.schemes import is_auto, parse_scheme, runs_free, scheme_names
from thinwire.common.session.generation import GenerationRequest
from thinwire.common.session.statistics import GenerationStatistics
from thinwire.edge.scheme_choice import FIRST_TIMES, Experience, choose


def asked(objective: str = "latency", temperature: float = 0.3) -> GenerationRequest:
    """A request that leaves the scheme to the edge."""
    sampling = SamplingParameters(temperature=temperature)
    return GenerationRequest("a", seed=0, scheme=parse_scheme("auto"), objective=objective, sampling=sampling)


def seen(**changes: Any) -> GenerationStatistics:
    """Of a text of 96 tokens at passes of 60 ms."""
    given = {"output_tokens": 96, "rounds": 40, "verify_s": 2.4, "open_s": 0.04, "draft_token_s": 0.003}
    return GenerationStatistics(**{**given, **changes})


def with_scheme(request: GenerationRequest, scheme: str, objective: str) -> GenerationRequest:
    """As the daemon notes a text that has ended."""
    return replace(request, scheme=parse_scheme(scheme, request.sampling.temperature), objective=objective)


@pytest.mark.parametrize("round_trip_s", [0.001, 0.04, 0.15, 2.0])
@pytest.mark.parametrize("temperature", [0.0, 0.3, 1.0])
def test_for_latency_the_cloud_runs_free(temperature: float, round_trip_s: float) -> None:
    """On any link, with the rates of the bundled pair."""
    known = Experience()
    request = asked(temperature=temperature)
    known.note(with_scheme(request, "coupled", "latency"), seen(open_s=round_trip_s))
    scheme, why = choose(request, known)

    assert scheme.scheme == "coupled"
    assert "objective latency" in why
    assert "from 1 earlier texts" in why


def test_for_latency_rounds_are_taken_where_they_are_much_faster() -> None:
    """Accepted far more often than guesses are right, and next to no round trip; not on a slower link."""
    for round_trip_s, taken in ((0.001, "k-sqs"), (0.3, "coupled")):
        known, request = Experience(), asked(temperature=1.0)
        known.note(
            with_scheme(request, "coupled", "latency"),
            seen(hints_judged=90, hints_right=36, open_s=round_trip_s),
        )
        known.note(
            with_scheme(request, "k-sqs", "latency"),
            seen(tested_tokens=90, accepted_tokens=72, open_s=round_trip_s),
        )
        assert choose(request, known)[0].scheme == taken


@pytest.mark.parametrize(
    ("temperature", "round_trip_s", "taken"),
    [(0.3, 0.005, "k-sqs"), (0.3, 0.3, "coupled"), (1.0, 0.005, "k-sqs"), (1.0, 0.6, "coupled")],
)
def test_for_few_passes_rounds_are_taken_where_they_spend_fewer_on_a_fast_link(
    temperature: float, round_trip_s: float, taken: str
) -> None:
    """Here 15 passes for 96 tokens; on a slow link they would take more than a third longer."""
    known, request = Experience(), asked("cloud", temperature)
    known.note(with_scheme(request, "k-sqs", "latency"), seen(rounds=15, verify_s=0.9, open_s=round_trip_s))
    scheme, why = choose(request, known)

    assert scheme.scheme == taken
    assert "objective cloud" in why
    assert "passes a token" in why


def test_measured_passes_take_the_place_of_recorded_ones() -> None:
    """Of the same temperature, objective and scheme only; recorded ones are for coupled."""
    known, request = Experience(), asked("cloud")
    assert choose(request, known)[0].scheme == "coupled"

    known.note(with_scheme(asked("latency", 0.9), "k-sqs", "latency"), seen(rounds=15))
    known.note(with_scheme(request, "coupled", "latency"), seen(rounds=60))
    assert choose(request, known)[0].scheme == "coupled"

    known.note(with_scheme(request, "coupled", "cloud"), seen(rounds=30))
    assert choose(request, known)[0].scheme == "k-sqs"

    known.note(with_scheme(request, "k-sqs", "latency"), seen(rounds=45))
    assert choose(request, known)[0].scheme == "coupled"


@pytest.mark.parametrize(
    ("served", "taken"), [(("k-sqs",), "k-sqs"), (("coupled",), "coupled"), (None, "coupled")]
)
def test_nothing_is_taken_that_the_cloud_does_not_serve(served: tuple[str, ...] | None, taken: str) -> None:
    """None is a cloud that has not said."""
    assert choose(asked("cloud"), Experience(), served)[0].scheme == taken


def test_times_follow_what_is_measured_and_a_short_text_says_nothing() -> None:
    """The first text counts whole; NaN and 0 are no measurements."""
    known, request = Experience(), with_scheme(asked(), "coupled", "latency")
    known.note(request, seen(output_tokens=3, open_s=9.0))
    known.note(request, GenerationStatistics())
    assert known.times() == FIRST_TIMES

    known.note(request, seen(verify_s=4.8, draft_token_s=float("nan"), open_s=0.0))
    assert known.times() == replace(FIRST_TIMES, pass_s=0.12)

    for _ in range(30):
        known.note(request, seen(open_s=0.2))
    assert known.times().pass_s == pytest.approx(0.06, rel=0.01)
    assert known.times().round_trip_s == pytest.approx(0.2, rel=0.01)


def test_rates_of_a_temperature_in_between_lie_in_between() -> None:
    """Before any text; after one it is that text's."""
    known = Experience()
    assert known.rate("coupled", asked(temperature=0.0)) == 0.84
    assert known.rate("coupled", asked(temperature=0.45)) == pytest.approx(0.805)
    assert known.rate("k-sqs", asked(temperature=0.65)) == pytest.approx(0.705)
    assert known.rate("coupled", asked(temperature=2.0)) == 0.62

    known.note(with_scheme(asked(), "coupled", "latency"), seen(hints_judged=10, hints_right=4))
    assert known.rate("coupled", asked()) == pytest.approx(0.4)


def test_auto_is_a_name_in_requests_and_no_scheme() -> None:
    """It has no parameters and is not among what a daemon serves."""
    assert is_auto(parse_scheme("auto"))
    assert str(parse_scheme("auto")) == "auto"
    assert "auto" not in scheme_names()
    with pytest.raises(ConfigError, match="auto has no parameter 'K'; expected none"):
        parse_scheme("auto:K=2")


@pytest.mark.parametrize("scheme", ["k-sqs", "cloud-ar", "coupled:lock_step=1"])
def test_an_objective_that_rounds_cannot_have_is_refused(scheme: str) -> None:
    """With what was received and what was expected."""
    expected = f"objective is 'cloud' with scheme {scheme}.*; expected latency, .*coupled or auto"
    with pytest.raises(ConfigError, match=expected):
        GenerationRequest("a", scheme=parse_scheme(scheme), objective="cloud")
    with pytest.raises(ConfigError, match="objective is 'speed'; expected one of latency, cloud"):
        GenerationRequest("a", scheme=parse_scheme(scheme), objective="speed")

    assert not runs_free(parse_scheme(scheme))
    assert GenerationRequest("a", scheme=parse_scheme("coupled"), objective="cloud").objective == "cloud"


def test_a_prediction_and_an_edge_without_draft_have_one_scheme() -> None:
    """Also where rounds would be taken otherwise, and the reason is told."""
    known = Experience()
    for request, has_draft in ((replace(asked("cloud"), prediction="so"), True), (asked("cloud"), False)):
        scheme, why = choose(request, known, has_draft=has_draft)
        assert scheme.scheme == "coupled"
        assert why.startswith("coupled, the one scheme for ")
