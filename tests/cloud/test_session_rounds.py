"""The cloud's session: how it opens, one round after the other, and the rounds it refuses."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.cloud.driven_session import (
    GOOD,
    PROMPT,
    attached,
    decided,
    make_block,
    make_session,
    only,
    scored,
    some_tokens,
    verifying,
)
from thinwire.cloud.events import (
    ArmTimer,
    Attached,
    BlockReceived,
    CloudEvent,
    Decode,
    Decoded,
    LinkLost,
    Prefill,
    Refuse,
    Release,
    Reply,
    Score,
    TruncateCache,
    WorkFailed,
)
from thinwire.cloud.session import CloudSession
from thinwire.common.errors import (
    ConfigError,
    LocalProtocolError,
    PayloadCorruptedError,
    PayloadInvalidError,
    PrefixMismatchError,
    ResourceExhaustedError,
    RoundOrderError,
    ThinwireError,
)
from thinwire.common.session.messages import DraftBlock, Verdict
from thinwire.common.session.states import State


@pytest.mark.parametrize(
    ("prompt", "words"),
    [((), "0 tokens"), ((0, 6), "token id 6"), ((0,) * 32, "32 tokens; expected at most 31")],
)
def test_a_prompt_that_no_text_can_follow_is_refused(prompt: tuple[int, ...], words: str) -> None:
    """Empty, out of vocabulary, or as long as the context."""
    with pytest.raises(ConfigError, match=words):
        make_session(prompt)


def test_the_prompt_is_fed_but_for_its_last_token() -> None:
    """Between rounds the cache holds all committed tokens but the last."""
    effects = make_session().step(Attached(1), 100.0)

    assert only(effects, Prefill).token_ids == PROMPT[:-1]
    assert only(effects, ArmTimer).at_s == 160.0
    opened = only(effects, Reply).message
    assert (opened.epoch, opened.committed_length, opened.next_round, opened.eos_token_ids) == (1, 3, 1, (5,))


def test_a_prompt_of_one_token_needs_no_prefill() -> None:
    """Nothing is fed before the first round."""
    effects = make_session((3,)).step(Attached(1), 100.0)

    assert not [effect for effect in effects if isinstance(effect, Prefill)]


def test_a_round_is_decoded_scored_and_answered() -> None:
    """Decode, Score with the last committed token in front, then rollback and the verdict."""
    block, tokens = make_block(), some_tokens(2)
    session = attached()
    begun = session.step(BlockReceived(1, block), 100.0)
    score = only(session.step(Decoded(1, tokens), 100.0), Score)
    effects = session.step(scored(1, (tokens[0].token_id,), 4), 200.0)

    assert begun == [ArmTimer(None), Decode(block)]
    assert score == Score(1, (2, tokens[0].token_id, tokens[1].token_id), tokens, 3)
    assert effects == [TruncateCache(4), Reply(1, Verdict(1, 1, 4, 5, 11, 22)), ArmTimer(260.0)]


def test_a_block_accepted_whole_needs_no_rollback() -> None:
    """The cache then holds exactly all committed tokens but the bonus token."""
    tokens = some_tokens(2)
    session = verifying()
    session.step(Decoded(1, tokens), 100.0)
    effects = session.step(scored(1, tuple(t.token_id for t in tokens), 4, resampled=False), 100.0)

    assert not [effect for effect in effects if isinstance(effect, TruncateCache)]
    assert session.committed_length == 6


def test_the_next_round_is_checked_against_the_committed_text() -> None:
    """Its hash covers the accepted tokens and the cloud's own."""
    session, _, _ = decided()

    assert only(session.step(BlockReceived(1, make_block((*PROMPT, 4), round=2)), 100.0), Decode)


def test_a_repeated_round_gets_the_same_verdict_without_work() -> None:
    """The dice are not rolled again."""
    session, block, verdict = decided()
    effects = session.step(BlockReceived(1, block), 200.0)

    assert effects == [Reply(1, verdict), ArmTimer(260.0)]


def test_a_round_repeated_while_it_is_verified_is_answered_once() -> None:
    """One verdict will answer both."""
    block = make_block()

    assert verifying(block).step(BlockReceived(1, block), 100.0) == []


def test_the_round_before_may_be_repeated_while_the_next_is_verified() -> None:
    """A late repeat gets its old verdict and disturbs nothing."""
    session, block, verdict = decided()
    session.step(BlockReceived(1, make_block((*PROMPT, 4), round=2)), 100.0)

    assert session.step(BlockReceived(1, block), 100.0) == [Reply(1, verdict)]
    assert session.state is State.VERIFYING


def refused(session: CloudSession, block: DraftBlock) -> ThinwireError:
    """The error a block is refused with; the session must be over."""
    effects = session.step(BlockReceived(1, block), 100.0)
    assert only(effects, Refuse).epoch == 1
    assert effects[-1] == Release()
    assert session.state is State.FAILED
    return only(effects, Refuse).error


@pytest.mark.parametrize("repeated", ["pending", "decided"])
def test_a_repeated_round_with_other_bytes_is_refused(repeated: str) -> None:
    """Whether it is still being verified or already answered."""
    session = verifying() if repeated == "pending" else decided()[0]

    assert isinstance(refused(session, make_block(length=1)), RoundOrderError)


@pytest.mark.parametrize("round_", [0, 2, 7])
def test_a_round_out_of_order_is_refused(round_: int) -> None:
    """Only the next round and the one before are legal."""
    assert isinstance(refused(attached(), make_block(round=round_)), RoundOrderError)


BAD: list[tuple[dict[str, Any], type[ThinwireError]]] = [
    ({"base_length": 4}, PrefixMismatchError),
    ({"prefix_hash": 1}, PrefixMismatchError),
    ({"draft_length": 65}, ConfigError),
    ({"draft_length": 29}, ConfigError),
    ({"payload": b"\x01" * 1000}, PayloadInvalidError),
]


@pytest.mark.parametrize(("changes", "kind"), BAD)
def test_a_bad_block_is_refused_before_it_is_decoded(
    changes: dict[str, Any], kind: type[ThinwireError]
) -> None:
    """Base length, prefix hash, γ against its limit and the context's room, payload length."""
    assert isinstance(refused(attached(), make_block(**changes)), kind)


def test_a_corrupted_block_is_refused() -> None:
    """The checksum covers the payload."""
    block = make_block()
    flipped = bytes([block.payload[0] ^ 1]) + block.payload[1:]

    assert isinstance(refused(attached(), replace(block, payload=flipped)), PayloadCorruptedError)


def test_checks_come_in_the_documented_order() -> None:
    """A block with every fault is refused for the first; mending that one shows the next."""
    faults: list[tuple[str, Any, type[ThinwireError]]] = [
        ("round", 5, RoundOrderError),
        ("base_length", 9, PrefixMismatchError),
        ("draft_length", 65, ConfigError),
        ("payload", b"\x01" * 1000, PayloadInvalidError),
        ("checksum", 0, PayloadCorruptedError),
    ]
    good = make_block()
    seen = []
    for first in range(len(faults)):
        block = replace(good, **{name: value for name, value, _ in faults[first:]})
        seen.append(type(refused(attached(), block)))

    assert seen == [kind for _, _, kind in faults]


def test_failed_work_ends_the_session() -> None:
    """A payload that decodes to nothing, NaN logits: the status goes to the edge, the cache is freed."""
    error = PayloadInvalidError("no.")
    session = verifying()

    assert session.step(WorkFailed(error), 100.0) == [Refuse(1, error), Release()]


@pytest.mark.parametrize("decoded", [False, True])
def test_a_round_without_room_is_put_off_and_may_come_again(decoded: bool) -> None:
    """The stream ends, the session is kept as it was, and the same bytes go to work on the next stream."""
    error = ResourceExhaustedError("full.")
    session = verifying()
    if decoded:
        session.step(Decoded(1, some_tokens(2)), 100.0)
    effects = session.step(WorkFailed(error), 100.0)
    states = [session.state]
    session.step(LinkLost(1), 100.0)
    session.step(Attached(2), 110.0)
    again = session.step(BlockReceived(2, GOOD), 110.0)
    states.append(session.state)

    assert effects == [Refuse(1, error), ArmTimer(130.0)]
    assert states == [State.DETACHED, State.VERIFYING]
    assert again == [ArmTimer(None), Decode(GOOD)]
    assert session.rounds == 0


def test_an_open_without_room_is_the_end_of_the_session() -> None:
    """Without a round there is nothing to come back to."""
    error = ResourceExhaustedError("full.")

    assert attached().step(WorkFailed(error), 100.0) == [Refuse(1, error), Release()]


@pytest.mark.parametrize("event", [Decoded(1, ()), scored(1, (), 4)])
def test_results_nobody_asked_for_are_our_own_bug(event: CloudEvent) -> None:
    """Decoded without Decode, Scored without Score."""
    with pytest.raises(LocalProtocolError):
        attached().step(event, 100.0)


def test_a_round_is_scored_once() -> None:
    """A second Decoded, or Scored before Decoded, is our own bug."""
    session = verifying()
    with pytest.raises(LocalProtocolError):
        session.step(scored(1, (), 4), 100.0)
    session.step(Decoded(1, some_tokens(2)), 100.0)
    with pytest.raises(LocalProtocolError):
        session.step(Decoded(1, some_tokens(2)), 100.0)

    assert session.state is State.VERIFYING
