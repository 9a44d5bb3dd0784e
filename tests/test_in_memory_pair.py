"""Both sessions back to back over a bad link: the text is what it would have been over a good one."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fakes import random_law, random_table
from in_memory_pair import InMemoryPair, Outcome
from thinwire.common.errors import ConfigError, TransportError
from thinwire.common.schemes.c_sqs import CSqs
from thinwire.common.schemes.dense_qs import DenseQs
from thinwire.common.schemes.k_sqs import KSqs
from thinwire.common.session.generation import GenerationRequest
from thinwire.common.session.messages import DraftBlock, FinishReason, Open, Verdict
from weather import Fault, Weather

SIZE = 6
SCHEMES = {
    "k-sqs": KSqs.Parameters(support_size=3, lattice_resolution=20),
    "c-sqs committed": CSqs.Parameters(lattice_resolution=20, initial_threshold=0.1),
    "c-sqs drafted": CSqs.Parameters(lattice_resolution=20, initial_threshold=0.1, rollback="drafted"),
    "dense-qs": DenseQs.Parameters(lattice_resolution=20),
}
STORM = Weather(drop=0.2, duplicate=0.3, delay=0.3, tear=0.2, forget=0.1, seed=1)


def parameters(scheme: str = "k-sqs", **changes: Any) -> GenerationRequest:
    """A short generation."""
    return GenerationRequest(
        "", scheme=SCHEMES[scheme], **{"seed": 5, "max_tokens": 16, "draft_length": 3, **changes}
    )


def make_pair(what: GenerationRequest, **options: Any) -> InMemoryPair:
    """A pair over two random tables that disagree."""
    return InMemoryPair(what, (0, 1), random_law(SIZE, 1), random_table(2, SIZE), **options)


def assert_same_text(foul: Outcome, fair: Outcome) -> None:
    """Same tokens of the same kinds, same text, same end."""
    assert foul.error is None
    assert (foul.token_ids, foul.kinds, foul.text) == (fair.token_ids, fair.kinds, fair.text)
    assert foul.reason is fair.reason


@pytest.mark.parametrize("scheme", SCHEMES)
@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 2**64 - 1),
    budget=st.sampled_from([0, 40]),
    faults=st.lists(st.sampled_from(Fault), max_size=40),
)
def test_faults_do_not_change_the_text(scheme: str, seed: int, budget: int, faults: list[Fault]) -> None:
    """Any row of drops, repeats, delays and cuts: each token arrives once, as if nothing had happened."""
    what = parameters(scheme, seed=seed, uplink_budget_bits=budget)

    assert_same_text(make_pair(what, faults=faults).run(), make_pair(what).run())


@pytest.mark.parametrize("scheme", SCHEMES)
@settings(max_examples=30, deadline=None, derandomize=True)
@given(seed=st.integers(0, 2**32), eos=st.sampled_from([(), (4,)]), stop=st.sampled_from([(), ("ab", "ca")]))
def test_bad_weather_does_not_change_the_end(
    scheme: str, seed: int, eos: tuple[int, ...], stop: tuple[str, ...]
) -> None:
    """The same with end-of-text ids, stop strings and a context that fills up."""
    what = parameters(scheme, max_tokens=40, stop=stop)
    options = {"eos_token_ids": eos, "context_length": 24}
    weather = Weather(drop=0.2, duplicate=0.3, delay=0.3, tear=0.2, forget=0.1, seed=seed)

    assert_same_text(make_pair(what, weather=weather, **options).run(), make_pair(what, **options).run())


def test_the_bad_weather_is_really_bad() -> None:
    """It makes streams resume, rounds come again and sessions get lost; else the tests above show nothing."""
    pair = make_pair(parameters(max_tokens=50), weather=STORM)
    outcome = pair.run()

    assert outcome.epochs > 5
    assert outcome.repeats > 5
    assert pair.edge.statistics.rebuilds > 2


def test_a_repeated_round_is_the_same_block_and_its_verdict_the_same_verdict() -> None:
    """Over a stormy link every round number of a session has one block and one verdict."""
    outcome = make_pair(parameters(max_tokens=50), weather=replace(STORM, forget=0.0)).run()
    blocks = {message for message in outcome.sent if isinstance(message, DraftBlock)}
    verdicts = {message for message in outcome.replies if isinstance(message, Verdict)}

    assert len({block.round for block in blocks}) == len(blocks)
    assert len({verdict.round for verdict in verdicts}) == len(verdicts)


def test_a_late_open_of_an_abandoned_stream_does_no_harm() -> None:
    """The resume's Open is delayed past its timeout and arrives behind the next one, which it supersedes."""
    faults = [Fault.NONE, Fault.NONE, Fault.CUT_BEFORE, Fault.DELAY_PAST_TIMEOUT]
    outcome = make_pair(parameters(), faults=faults).run()

    assert_same_text(outcome, make_pair(parameters()).run())
    assert outcome.epochs > 3


def test_a_lost_opened_leaves_no_session_behind() -> None:
    """The edge opens afresh; the orphan expires (the pair fails on a session that leaks)."""
    pair = make_pair(parameters(), faults=[Fault.NONE, Fault.DROP])

    assert_same_text(pair.run(), make_pair(parameters()).run())
    assert len(pair.cloud_sessions) == 2


def test_the_prompt_goes_up_once() -> None:
    """Resumes name the session instead."""
    outcome = make_pair(parameters(), faults=[Fault.NONE] * 3 + [Fault.CUT_AFTER, Fault.NONE] * 4).run()
    opens = [message for message in outcome.sent if isinstance(message, Open)]

    assert len(opens) > 1
    assert [bool(message.prompt_token_ids) for message in opens] == [True] + [False] * (len(opens) - 1)


def test_a_link_that_is_gone_for_good_ends_the_text_with_its_error() -> None:
    """When the patience is over; the tokens that came are kept, the cloud's session expires."""
    outcome = make_pair(
        parameters(), weather=Weather(drop=1.0), faults=[Fault.NONE] * 4, patience_s=5.0
    ).run()

    assert outcome.reason is FinishReason.ERROR
    assert isinstance(outcome.error, TransportError)
    assert outcome.token_ids


def test_another_seed_gives_another_text() -> None:
    """The seed matters, so the equalities above are not those of constants."""
    texts = {tuple(make_pair(parameters(seed=seed, max_tokens=40)).run().token_ids) for seed in range(8)}

    assert len(texts) == 8


@pytest.mark.parametrize("draft_length", [0, 1, 4, 64])
def test_neither_end_commits_more_than_max_tokens(draft_length: int) -> None:
    """A block accepted whole with its bonus token still fits."""
    pair = make_pair(parameters(max_tokens=17, draft_length=draft_length))

    assert len(pair.run().token_ids) == 17
    assert pair.cloud is not None
    assert pair.cloud.committed_length == 2 + 17


def test_a_context_that_fills_up_ends_the_text() -> None:
    """Prompt and output fill the smaller context exactly."""
    outcome = make_pair(parameters(max_tokens=100), context_length=30, target_context_length=12).run()

    assert (len(outcome.token_ids), outcome.reason) == (10, FinishReason.CONTEXT)


def test_a_prompt_too_long_for_the_target_ends_the_text_with_a_config_error() -> None:
    """The cloud refuses the session; nothing is left behind."""
    outcome = make_pair(parameters(), target_context_length=2).run()

    assert isinstance(outcome.error, ConfigError)
