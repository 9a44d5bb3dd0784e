"""The edge's session: how it opens, and one round after the other."""

from __future__ import annotations

import pytest

from common.errors import ConfigError, RemoteProtocolError
from common.messages import FinishReason, TokenKind, block_checksum
from common.protocol import State
from edge.events import ArmTimer, Draft, Emit, Send, Started, TruncateCache
from tests.edge.driven_session import PROMPT, SCHEME, SIZE, Driven, finish_of, only


@pytest.mark.parametrize(
    ("prompt", "words"),
    [((), "0 tokens"), ((0, 6), "token id 6"), ((0,) * 64, "64 tokens; expected at most 63")],
)
def test_a_prompt_that_no_text_can_follow_is_refused_at_once(prompt: tuple[int, ...], words: str) -> None:
    """Empty, out of vocabulary, or as long as the context."""
    with pytest.raises(ConfigError, match=words):
        Driven(prompt=prompt)


def test_a_prompt_that_fills_the_targets_context_ends_with_a_config_error() -> None:
    """The target's context is known at Opened only."""
    finish = finish_of(Driven().open(context_length=2))

    assert isinstance(finish.error, ConfigError)


def test_the_first_message_is_open_with_the_whole_prompt() -> None:
    """And its answer has a deadline."""
    effects = Driven().step(Started())

    assert only(effects, Send).message.prompt_token_ids == PROMPT
    assert only(effects, ArmTimer).at_s == 105.0


def test_the_first_draft_feeds_the_prompt() -> None:
    """Everything the empty cache lacks; end-of-text ids are the target's."""
    draft = only(Driven().open(), Draft)

    assert (draft.attempt, draft.feed_token_ids, draft.first_position) == (0, PROMPT, 2)
    assert draft.stop_token_ids == {5}


def test_a_new_session_must_open_at_the_prompt() -> None:
    """Another length or round is the cloud's fault."""
    for changes in ({"committed_length": 3}, {"next_round": 2}):
        assert isinstance(finish_of(Driven().open(**changes)).error, RemoteProtocolError)


def test_a_sent_block_carries_its_checksum_and_has_a_deadline() -> None:
    """Round 1 on the prompt, guarded by the CRC over block and scheme."""
    driven = Driven()
    driven.open()
    effects = driven.round()
    block = only(effects, Send).message

    assert (block.round, block.base_length, block.draft_length) == (1, 2, 3)
    assert block.checksum == block_checksum(block, SCHEME)
    assert only(effects, ArmTimer).at_s == 105.0


def test_a_block_accepted_whole_yields_gamma_plus_one_tokens() -> None:
    """γ accepted and a bonus token; the cache lacks the last draft token and the bonus."""
    driven = Driven()
    driven.open()
    driven.round()
    effects = driven.verdict(3, 4)
    tokens = only(effects, Emit).tokens

    assert [t.token_id for t in tokens] == [*driven.drafted_ids, 4]
    assert [t.kind for t in tokens] == [TokenKind.ACCEPTED] * 3 + [TokenKind.BONUS]
    assert not [effect for effect in effects if isinstance(effect, TruncateCache)]
    assert only(effects, Draft).feed_token_ids == (driven.drafted_ids[2], 4)


def test_a_rejection_yields_the_replacement_and_rolls_the_cache_back() -> None:
    """One accepted, one resampled; the cache keeps the common prefix."""
    driven = Driven()
    driven.open()
    driven.round()
    effects = driven.verdict(1, 4)

    assert [t.kind for t in only(effects, Emit).tokens] == [TokenKind.ACCEPTED, TokenKind.RESAMPLED]
    assert only(effects, TruncateCache).length == 3
    assert only(effects, Draft).feed_token_ids == (4,)
    assert only(effects, Draft).attempt == 1


def test_without_drafts_the_cache_lags_behind() -> None:
    """γ = 0: nothing is fed; every token is a bonus token."""
    driven = Driven(draft_length=0)
    driven.open()
    for _ in range(2):
        driven.round()
        effects = driven.verdict(0, 3)

    assert only(effects, Emit).tokens[0].kind is TokenKind.BONUS
    assert only(effects, Draft).feed_token_ids == ()


@pytest.mark.parametrize(
    "changes",
    [
        {"accepted": 4},
        {"accepted": 1, "next_token_id": SIZE},
        {"accepted": 1, "committed_length": 5},
        {"accepted": 1, "round": 2},
    ],
)
def test_an_impossible_verdict_ends_the_text_with_an_error(changes: dict[str, int]) -> None:
    """More accepted than drafted, a token out of vocabulary, a wrong length, a round not sent."""
    driven = Driven()
    driven.open()
    driven.round()
    finish = finish_of(driven.verdict(**changes))

    assert finish.reason is FinishReason.ERROR
    assert isinstance(finish.error, RemoteProtocolError)
    assert driven.session.state is State.FAILED


def test_a_verdict_of_a_decided_round_is_ignored() -> None:
    """A repeated answer moves nothing."""
    driven = Driven()
    driven.open()
    driven.round()
    driven.verdict(1)

    assert driven.verdict(1) == []


def test_the_tally_counts_tested_and_resampled_tokens() -> None:
    """The first rejection is tested, those behind it are not."""
    driven = Driven()
    driven.open()
    driven.round()
    driven.verdict(1)
    tally = driven.session.tally

    assert (tally.rounds, tally.drafted_tokens, tally.tested_tokens, tally.accepted_tokens) == (1, 3, 2, 1)
    assert (tally.output_tokens, tally.resampled_tokens, tally.kept_positions) == (2, 1, 2)
