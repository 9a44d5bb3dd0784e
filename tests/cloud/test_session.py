"""The cloud's session, event by event, and every state against every event."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from fakes import TableVocabulary, random_law
from hypothesis import given, settings
from hypothesis import strategies as st

from cloud.events import (
    ArmTimer,
    Attached,
    BlockReceived,
    CloseReceived,
    CloudEffect,
    CloudEvent,
    Decode,
    Decoded,
    LinkLost,
    Prefill,
    Refuse,
    Release,
    Reply,
    ReplyClosed,
    Score,
    Scored,
    TimerFired,
    TruncateCache,
    WorkFailed,
)
from cloud.session import CloudSession
from common.config import SamplingParameters, SchemeParameters
from common.draft_token import DraftToken
from common.errors import (
    ConfigError,
    EpochSupersededError,
    LocalProtocolError,
    PayloadCorruptedError,
    PayloadInvalidError,
    PrefixMismatchError,
    ResourceExhaustedError,
    RoundOrderError,
    SessionNotFoundError,
    ThinwireError,
)
from common.messages import Close, CloseReason, DraftBlock, Open, PrefixHasher, Verdict, block_checksum
from common.protocol import TERMINAL, State
from common.random_streams import KeyedDraws
from common.schemes import make_scheme
from common.speculative import BlockOutcome

SIZE = 6
PROMPT = (0, 1, 2)
SCHEME = SchemeParameters(support_size=3, lattice_resolution=20)
CODER = make_scheme(SCHEME, vocabulary_size=SIZE)
LAW = random_law(SIZE, 1)
CLOSE = Close(CloseReason.FINISHED)


def make_session(prompt: tuple[int, ...] = PROMPT, *, context_length: int = 32) -> CloudSession:
    """A session nobody has attached to yet."""
    open_ = Open(TableVocabulary(SIZE).identity, SCHEME, SamplingParameters(), 7, prompt)
    return CloudSession(
        bytes(16),
        open_,
        scheme=CODER,
        context_length=context_length,
        eos_token_ids=(5,),
        resume_ttl_s=30.0,
        idle_ttl_s=60.0,
    )


def some_tokens(count: int) -> tuple[DraftToken, ...]:
    """`count` drafted tokens."""
    state, tokens, prefix = CODER.initial_state(), [], PROMPT
    for n in range(count):
        token = CODER.sample(CODER.quantize(LAW(prefix), state), KeyedDraws(7), position=3 + n, attempt=0)
        tokens.append(token)
        prefix = (*prefix, token.token_id)
    return tuple(tokens)


def sealed(block: DraftBlock) -> DraftBlock:
    """The block with its right checksum."""
    return replace(block, checksum=block_checksum(block, SCHEME))


def make_block(
    committed: tuple[int, ...] = PROMPT, *, round: int = 1, length: int = 2, **changes: Any
) -> DraftBlock:
    """A good block on `committed`, then changed and sealed."""
    hasher = PrefixHasher()
    hasher.extend(committed)
    payload = CODER.encode(some_tokens(length), support_size_code=0)
    block = DraftBlock(round, len(committed), hasher.value(), length, 0, payload, 0)
    return sealed(replace(block, **changes))


def scored(round_: int, accepted: tuple[int, ...], next_token_id: int, *, resampled: bool = True) -> Scored:
    """What a Score effect comes to."""
    return Scored(round_, accepted, BlockOutcome(len(accepted), next_token_id, resampled, 1.0), 11, 22)


def attached() -> CloudSession:
    """A session with a stream of epoch 1."""
    session = make_session()
    session.step(Attached(1), 100.0)
    return session


def verifying(block: DraftBlock | None = None) -> CloudSession:
    """A session with its first round in decoding."""
    session = attached()
    session.step(BlockReceived(1, block or make_block()), 100.0)
    return session


def decided() -> tuple[CloudSession, DraftBlock, Verdict]:
    """A session that has answered its first round: nothing accepted, token 4."""
    block = make_block()
    session = verifying(block)
    session.step(Decoded(1, some_tokens(2)), 100.0)
    effects = session.step(scored(1, (), 4), 100.0)
    return session, block, only(effects, Reply).message


def only(effects: list[CloudEffect], kind: type[Any]) -> Any:
    """The one effect of a kind."""
    found = [effect for effect in effects if isinstance(effect, kind)]
    assert len(found) == 1, effects
    return found[0]


# --- opening ------------------------------------------------------------------------------------------------


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


# --- one round ----------------------------------------------------------------------------------------------


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


def test_close_decisions_are_counted() -> None:
    """A margin below 1e-4 counts, one at it does not."""
    session = verifying()
    session.step(Decoded(1, some_tokens(2)), 100.0)
    close = replace(scored(1, (), 4), outcome=BlockOutcome(0, 4, True, 0.9e-4))
    session.step(close, 100.0)
    other = verifying()
    other.step(Decoded(1, some_tokens(2)), 100.0)
    other.step(replace(close, outcome=BlockOutcome(0, 4, True, 1e-4)), 100.0)

    assert (session.close_decisions, other.close_decisions) == (1, 0)


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


# --- streams and ends ---------------------------------------------------------------------------------------


def test_a_newer_stream_takes_over() -> None:
    """The former one is refused; the session goes on where it was."""
    session, _, _ = decided()
    effects = session.step(Attached(2), 100.0)
    opened = only(effects, Reply).message

    assert only(effects, Refuse).epoch == 1
    assert isinstance(only(effects, Refuse).error, EpochSupersededError)
    assert (opened.epoch, opened.committed_length, opened.next_round) == (2, 4, 2)


@pytest.mark.parametrize("event", [BlockReceived(1, make_block()), CloseReceived(1, CLOSE)])
def test_a_former_stream_is_refused_and_harms_nothing(event: CloudEvent) -> None:
    """Its messages move nothing."""
    session = attached()
    session.step(Attached(2), 100.0)
    effects = session.step(event, 100.0)

    assert isinstance(only(effects, Refuse).error, EpochSupersededError)
    assert effects == [only(effects, Refuse)]
    assert session.state is State.IDLE


def test_a_verdict_reached_without_a_stream_is_kept_for_the_resume() -> None:
    """The link breaks in mid-verification: no reply, but the round is decided and its repeat answered."""
    block = make_block()
    session = verifying(block)
    lost = session.step(LinkLost(1), 100.0)
    session.step(Decoded(1, some_tokens(2)), 100.0)
    silent = session.step(scored(1, (), 4), 100.0)
    resumed = session.step(Attached(2), 100.0)
    repeated = session.step(BlockReceived(2, block), 100.0)

    assert lost == [ArmTimer(130.0)]
    assert silent == [TruncateCache(3)]
    assert only(resumed, Reply).message.next_round == 2
    assert only(repeated, Reply).message == Verdict(1, 0, 4, 4, 11, 22)


def test_a_round_taken_over_in_mid_verification_is_answered_on_the_new_stream() -> None:
    """And while it is verified the silence is not the edge's."""
    session = verifying()
    resumed = session.step(Attached(2), 100.0)
    session.step(Decoded(1, some_tokens(2)), 100.0)
    effects = session.step(scored(1, (), 4), 100.0)

    assert only(resumed, ArmTimer).at_s is None
    assert only(effects, Reply).epoch == 2


def test_the_end_of_a_former_stream_is_no_news() -> None:
    """The session is held by the newer one."""
    session = attached()
    session.step(Attached(2), 100.0)

    assert session.step(LinkLost(1), 100.0) == []


def test_a_close_frees_the_session() -> None:
    """Answered with the account of the session."""
    session, _, _ = decided()

    assert session.step(CloseReceived(1, CLOSE), 100.0) == [ReplyClosed(1, 1, 4), Release()]
    assert session.state is State.CLOSED


def test_a_session_that_waited_too_long_is_freed() -> None:
    """The resume or idle time has passed."""
    session = attached()
    session.step(LinkLost(1), 100.0)
    effects = session.step(TimerFired(), 130.0)

    assert isinstance(only(effects, Refuse).error, SessionNotFoundError)
    assert effects[-1] == Release()


def test_a_session_that_ended_refuses_new_streams_and_ignores_late_results() -> None:
    """Terminal for good."""
    session = verifying()
    session.step(CloseReceived(1, CLOSE), 100.0)

    assert session.step(Decoded(1, some_tokens(2)), 100.0) == []
    assert isinstance(only(session.step(Attached(2), 100.0), Refuse).error, SessionNotFoundError)


# --- every state, every event -------------------------------------------------------------------------------

GOOD, SECOND = make_block(), make_block((*PROMPT, 4), round=2)
BLOCKS = st.one_of(
    st.sampled_from([GOOD, SECOND, make_block(length=1), replace(GOOD, checksum=0)]),
    st.builds(
        DraftBlock,
        round=st.integers(0, 3),
        base_length=st.integers(2, 5),
        prefix_hash=st.sampled_from([0, GOOD.prefix_hash, SECOND.prefix_hash]),
        draft_length=st.integers(-1, 65),
        support_size_code=st.integers(0, 3),
        payload=st.binary(max_size=8),
        checksum=st.just(0),
    )
    .filter(lambda block: block.draft_length >= 0)
    .map(sealed),
)
EPOCH = st.integers(0, 3)
EVENTS = st.one_of(
    EPOCH.map(Attached),
    st.builds(BlockReceived, EPOCH, BLOCKS),
    st.integers(0, 3).map(lambda round_: Decoded(round_, some_tokens(2))),
    st.builds(scored, st.integers(0, 3), st.sampled_from([(), (1,)]), st.integers(0, SIZE - 1)),
    st.just(WorkFailed(ThinwireError("x."))),
    st.just(WorkFailed(ResourceExhaustedError("x."))),
    EPOCH.map(lambda epoch: CloseReceived(epoch, CLOSE)),
    EPOCH.map(LinkLost),
    st.just(TimerFired()),
)
ROUND = [Attached(1), BlockReceived(1, GOOD)]
PATHS: dict[str, list[CloudEvent]] = {
    "new": [],
    "idle": [Attached(1)],
    "decoding": ROUND,
    "scoring": [*ROUND, Decoded(1, some_tokens(2))],
    "after a round": [*ROUND, Decoded(1, some_tokens(2)), scored(1, (), 4)],
    "detached": [Attached(1), LinkLost(1)],
    "detached while decoding": [*ROUND, LinkLost(1)],
    "detached while scoring": [*ROUND, Decoded(1, some_tokens(2)), LinkLost(1)],
    "taken over while decoding": [*ROUND, Attached(2)],
    "put off": [*ROUND, WorkFailed(ResourceExhaustedError("x."))],
    "closed": [Attached(1), CloseReceived(1, CLOSE)],
    "failed": [Attached(1), WorkFailed(ThinwireError("x."))],
}


@pytest.mark.parametrize("name", PATHS)
@settings(derandomize=True, max_examples=60, deadline=None)
@given(events=st.lists(EVENTS, min_size=1, max_size=6))
def test_every_event_in_every_state_has_effects_or_the_documented_error(
    name: str, events: list[CloudEvent]
) -> None:
    """From each state, any events: effects, or LocalProtocolError that moves nothing; Release comes once."""
    session = make_session()
    for event in PATHS[name]:
        session.step(event, 100.0)

    for event in events:
        before = session.state
        try:
            effects = session.step(event, 100.0)
        except LocalProtocolError:
            assert session.state is before
            continue
        releases = [effect for effect in effects if isinstance(effect, Release)]
        assert len(releases) == (session.state in TERMINAL and before not in TERMINAL)
        assert not releases or effects[-1] is releases[0]


def test_the_paths_reach_every_state_the_cloud_rests_in() -> None:
    """OPENING lasts only while the edge waits; the cloud answers in the same step."""
    reached = set()
    for path in PATHS.values():
        session = make_session()
        for event in path:
            session.step(event, 100.0)
        reached.add(session.state)

    assert reached == set(State) - {State.OPENING}
