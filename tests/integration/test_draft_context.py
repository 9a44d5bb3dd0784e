"""Two real daemons whose draft model holds less than the target: only the target's context ends a text."""

from __future__ import annotations

import pytest

from fakes import TableVocabulary, random_law
from loopback import Generated, WatchedModel, generate, loopback, make_request
from thinwire.cloud.settings import CloudSettings
from thinwire.common.errors import ConfigError
from thinwire.common.schemes import scheme_names
from thinwire.common.session.messages import FinishReason

SIZE = 8
VOCABULARY = TableVocabulary(SIZE)
TARGET, DRAFT = random_law(SIZE, 1), random_law(SIZE, 2)
TARGET_CONTEXT, SMALL = 80, 16
LONG_PROMPT = "abcdefgh" * 5


async def text_with(draft_context: int, prompt: str, **changes: object) -> Generated:
    """One generation to the end of the target's context; nothing may be left behind."""
    target = WatchedModel(TARGET, context_length=TARGET_CONTEXT)
    draft = WatchedModel(DRAFT, context_length=draft_context)
    settings = CloudSettings(allow_dense_f16=True)
    async with loopback(target, draft, VOCABULARY, cloud_settings=settings) as both:
        done = await generate(both.client, make_request(prompt, max_tokens=500, **changes))

    assert target.open_sequences == draft.open_sequences == 0
    return done


@pytest.mark.parametrize("prompt", ["abc", LONG_PROMPT], ids=["short", "long"])
@pytest.mark.parametrize("scheme", scheme_names())
async def test_a_greedy_text_is_that_of_a_draft_with_room(scheme: str, prompt: str) -> None:
    """Token for token, up to the end of the target's context; a prompt longer than the draft's is served."""
    small = await text_with(SMALL, prompt, scheme=scheme, temperature=0.0)
    large = await text_with(TARGET_CONTEXT, prompt, scheme=scheme, temperature=0.0)

    assert small.token_ids == large.token_ids
    assert small.text == large.text
    assert small.reason is FinishReason.CONTEXT
    assert len(small.tokens) == TARGET_CONTEXT - len(prompt)


@pytest.mark.parametrize("prompt", ["abc", LONG_PROMPT], ids=["short", "long"])
async def test_a_sampled_text_of_the_cloud_alone_is_that_of_a_draft_with_room(prompt: str) -> None:
    """Under cloud-ar every draw is the cloud's, by seed and position."""
    small = await text_with(SMALL, prompt, scheme="cloud-ar", seed=5)
    large = await text_with(TARGET_CONTEXT, prompt, scheme="cloud-ar", seed=5)

    assert small.token_ids == large.token_ids
    assert small.finished.statistics.draft_full_from == 0


@pytest.mark.parametrize("scheme", scheme_names())
async def test_a_sampled_text_goes_on_and_says_from_where_on_the_draft_was_full(scheme: str) -> None:
    """The first empty block begins at that token; behind a prompt too long for it nothing is drafted."""
    rounds = {"lock_step": True} if scheme == "coupled" else {}  # a cloud that runs free may outrun the draft
    short = await text_with(SMALL, "abc", scheme=scheme, **rounds)
    long = await text_with(SMALL, LONG_PROMPT, scheme=scheme, **rounds)

    assert (short.reason, long.reason) == (FinishReason.CONTEXT, FinishReason.CONTEXT)
    assert (len(short.tokens), len(long.tokens)) == (TARGET_CONTEXT - 3, TARGET_CONTEXT - len(LONG_PROMPT))
    assert long.finished.statistics.drafted_tokens == 0
    assert long.finished.statistics.rounds == len(long.tokens)
    if scheme != "cloud-ar":
        assert short.finished.statistics.draft_full_from in {SMALL + 2 - 3, SMALL + 3 - 3}  # a bonus token
        assert long.finished.statistics.draft_full_from == 1
        assert short.finished.statistics.drafted_tokens > 0


async def test_a_prompt_too_long_for_the_target_is_refused_with_whose_context_it_is() -> None:
    """However long the draft's is."""
    for draft_context in (SMALL, 500):
        with pytest.raises(
            ConfigError, match="80 tokens; expected at most 79, one less than the target model's"
        ):
            await text_with(draft_context, "a" * TARGET_CONTEXT)
