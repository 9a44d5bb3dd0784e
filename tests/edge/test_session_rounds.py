"""The edge's session: how it opens, and one round after the other."""

from __future__ import annotations

import pytest

from tests.edge.driven_session import PROMPT, SCHEME, SIZE, Driven, finish_of, only
from thinwire.common.errors import ConfigError, RemoteProtocolError
from thinwire.common.session.messages import FinishReason, TokenKind, block_checksum
from thinwire.common.session.states import State
from thinwire.edge.events import ArmTimer, Connected, Draft, Emit, Finish, Send, TruncateCache


@pytest.mark.parametrize(
    ("prompt", "words"),
    [((), "0 tokens"), ((0, 6), "token id 6")],
)
def test_a_prompt_that_no_text_can_follow_is_refused_at_once(prompt: tuple[int, ...], words: str) -> None:
    """Empty, or out of vocabulary."""
    with pytest.raises(ConfigError, match=words):
        Driven(prompt=prompt)


def test_a_prompt_that_fills_the_targets_context_ends_with_a_config_error() -> None:
    """The target's context is known at Opened only."""
    finish = finish_of(Driven(prompt=(0, 1)).open(context_length=2))

    assert isinstance(finish.error, ConfigError)
    assert str(finish.error) == (
        "the prompt holds 2 tokens; expected at most 1, one less than the target model's context length."
    )


def test_a_stop_token_id_outside_the_vocabulary_is_refused_at_once() -> None:
    """It could never end a text."""
    with pytest.raises(ConfigError, match="a stop token id is 6; expected an integer from 0 to 5"):
        Driven(stop_token_ids=(2, 6))


@pytest.mark.parametrize(("length", "block"), [(2, 3), (14, 3), (15, 2), (16, 1), (17, 0), (60, 0)])
def test_a_block_is_no_longer_than_the_draft_model_can_hold(length: int, block: int) -> None:
    """All but its last token are fed behind the text; a full draft model is fed nothing."""
    driven = Driven(prompt=(0,) * length, context_length=16)
    draft = only(driven.open(committed_length=length), Draft)

    assert draft.max_draft_length == block
    assert draft.feed_token_ids == ((0,) * length if block else ())
    assert driven.session.statistics.draft_full_from == (not block)


def test_a_text_goes_on_by_empty_blocks_where_the_draft_is_full() -> None:
    """Until the target's context ends it; the report says from which output token on."""
    driven = Driven(prompt=(0,) * 15, context_length=16)
    driven.open(committed_length=15, context_length=20, eos_token_ids=())
    driven.round()
    effects = driven.verdict(2)
    lengths = []
    while not isinstance(effects[-1], Finish):
        assert driven.draft is not None
        lengths.append(driven.draft.max_draft_length)
        driven.round()
        effects = driven.verdict(0)

    assert lengths == [0, 0]
    assert finish_of(effects).reason is FinishReason.CONTEXT
    assert driven.session.statistics.draft_full_from == 4


def test_the_first_message_is_open_with_the_whole_prompt() -> None:
    """And its answer has a deadline."""
    effects = Driven().step(Connected())

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


def test_the_statistics_count_tested_and_resampled_tokens() -> None:
    """The first rejection is tested, those behind it are not."""
    driven = Driven()
    driven.open()
    driven.round()
    driven.verdict(1)
    s = driven.session.statistics

    assert (s.rounds, s.drafted_tokens, s.tested_tokens, s.accepted_tokens) == (1, 3, 2, 1)
    assert (s.output_tokens, s.resampled_tokens, s.kept_positions) == (2, 1, 2)
