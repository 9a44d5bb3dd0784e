"""The edge's session, event by event, and every state against every event."""

from __future__ import annotations

import math
from typing import Any

import pytest
from fakes import TableVocabulary, random_law
from hypothesis import given, settings
from hypothesis import strategies as st

from common.config import GenerationParameters, SchemeParameters
from common.errors import (
    ConfigError,
    DeadlineError,
    EpochSupersededError,
    LocalProtocolError,
    QuotaExceededError,
    RemoteProtocolError,
    ResourceExhaustedError,
    SessionNotFoundError,
    ThinwireError,
    TransportError,
)
from common.messages import (
    Close,
    CloseReason,
    DraftBlock,
    FinishReason,
    Open,
    Opened,
    TokenKind,
    Verdict,
    block_checksum,
)
from common.protocol import TERMINAL, State
from common.random_streams import KeyedDraws
from common.schemes import make_scheme
from edge.draft_block import DraftBlockBuilder
from edge.events import (
    ArmTimer,
    Cancelled,
    Draft,
    Drafted,
    DraftedBlock,
    EdgeEffect,
    EdgeEvent,
    Emit,
    Finish,
    LinkLost,
    LinkRestored,
    OpenedReceived,
    Reconnect,
    Refused,
    Send,
    Started,
    TimerFired,
    TruncateCache,
    VerdictReceived,
)
from edge.session import EdgeSession
from edge.text_stream import TextStream

SIZE = 6
PROMPT = (0, 1)
VOCABULARY = TableVocabulary(SIZE)
SCHEME = SchemeParameters(support_size=3, lattice_resolution=20)
LAW = random_law(SIZE, 1)
LINK_ERROR = TransportError("torn.")


class Driven:
    """A session with what a shell would keep: the cache and the last effects."""

    def __init__(
        self,
        *,
        prompt: tuple[int, ...] = PROMPT,
        context_length: int = 64,
        patience_s: float = 60.0,
        round_timeout_s: float = 5.0,
        least_round_timeout_s: float | None = None,
        **changes: Any,
    ):
        self.parameters = GenerationParameters(seed=7, scheme=SCHEME, **{"draft_length": 3, **changes})
        self.scheme = make_scheme(SCHEME, vocabulary_size=SIZE)
        self.session = EdgeSession(
            self.parameters,
            prompt,
            vocabulary=VOCABULARY.identity,
            scheme=self.scheme,
            text=TextStream(VOCABULARY.decode, stop=self.parameters.stop),
            context_length=context_length,
            round_timeout_s=round_timeout_s,
            least_round_timeout_s=least_round_timeout_s,
            patience_s=patience_s,
        )
        self.now = 100.0
        self.draft: Draft | None = None
        self.block: DraftedBlock | None = None
        self.sent: DraftBlock | None = None
        self.effects: list[EdgeEffect] = []

    def step(self, event: EdgeEvent) -> list[EdgeEffect]:
        """Step now, remembering the last Draft and block."""
        self.effects = self.session.step(event, self.now)
        for effect in self.effects:
            if isinstance(effect, Draft):
                self.draft = effect
            if isinstance(effect, Send) and isinstance(effect.message, DraftBlock):
                self.sent = effect.message
        return self.effects

    def open(self, **changes: Any) -> list[EdgeEffect]:
        """Start and open."""
        self.step(Started())
        return self.step(OpenedReceived(opened(**changes)))

    def drafted(self) -> Drafted:
        """What the last Draft effect comes to."""
        draft = self.draft
        assert draft is not None
        builder = DraftBlockBuilder(
            self.scheme,
            draft.state,
            KeyedDraws(7),
            attempt=draft.attempt,
            first_position=draft.first_position,
            max_draft_length=draft.max_draft_length,
            budget_bits=draft.budget_bits,
            stop_token_ids=draft.stop_token_ids,
        )
        prefix = self.session.committed_token_ids
        while not builder.complete:
            prefix = (*prefix, builder.offer(LAW(prefix)))  # type: ignore[assignment]
        length = draft.first_position + max(0, draft.max_draft_length - 1) if draft.max_draft_length else 0
        self.block = builder.build(cache_length=length, draft_s=0.0)
        return Drafted(draft.attempt, self.block)

    def round(self) -> list[EdgeEffect]:
        """Draft and send."""
        return self.step(self.drafted())

    def verdict(self, accepted: int, next_token_id: int = 2, **changes: int) -> list[EdgeEffect]:
        """Answer the block sent last."""
        assert self.sent is not None
        values = {
            "round": self.sent.round,
            "committed_length": self.sent.base_length + accepted + 1,
            **changes,
        }
        return self.step(VerdictReceived(Verdict(accepted=accepted, next_token_id=next_token_id, **values)))

    @property
    def drafted_ids(self) -> list[int]:
        """Tokens of the last block."""
        assert self.block is not None
        return [token.token_id for token in self.block.tokens]


def opened(**changes: Any) -> Opened:
    """A good answer to the first Open."""
    values: dict[str, Any] = {
        "session_id": bytes(16), "epoch": 1, "context_length": 64, "eos_token_ids": (5,),
        "committed_length": len(PROMPT), "next_round": 1, **changes,
    }  # fmt: skip
    return Opened(**values)


def only(effects: list[EdgeEffect], kind: type[Any]) -> Any:
    """The one effect of a kind."""
    found = [effect for effect in effects if isinstance(effect, kind)]
    assert len(found) == 1, effects
    return found[0]


def finish_of(effects: list[EdgeEffect]) -> Finish:
    """Finish, which must be the last effect."""
    assert isinstance(effects[-1], Finish)
    return effects[-1]


# --- opening ------------------------------------------------------------------------------------------------


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


# --- rounds -------------------------------------------------------------------------------------------------


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


# --- the ends of a text -------------------------------------------------------------------------------------


def closes(effects: list[EdgeEffect], reason: FinishReason) -> bool:
    """Whether the text ends for `reason` after Close(FINISHED), with no further draft."""
    sends = [effect.message for effect in effects if isinstance(effect, Send)]
    drafts = [effect for effect in effects if isinstance(effect, Draft)]
    return sends == [Close(CloseReason.FINISHED)] and not drafts and finish_of(effects).reason is reason


def test_an_end_of_text_token_is_emitted_without_text_and_ends_the_text() -> None:
    """A committed id of the target's list, counted as output."""
    driven = Driven()
    driven.open()
    driven.round()
    effects = driven.verdict(0, 5)

    assert [(t.token_id, t.text) for t in only(effects, Emit).tokens] == [(5, "")]
    assert closes(effects, FinishReason.EOS)


def test_nothing_behind_an_accepted_end_of_text_token_is_emitted() -> None:
    """The bonus token of that round is dropped."""
    driven = Driven()
    driven.open(eos_token_ids=tuple(range(SIZE)))
    driven.round()
    effects = driven.verdict(1, 4)

    assert [t.kind for t in only(effects, Emit).tokens] == [TokenKind.ACCEPTED]
    assert closes(effects, FinishReason.EOS)
    assert driven.session.tally.output_tokens == 1
    assert len(driven.session.committed_token_ids) == 3


def test_a_stop_string_ends_the_text_and_its_last_token_is_counted() -> None:
    """The token that completes the match is emitted, its text is not."""
    driven = Driven(stop=("c",))
    driven.open()
    driven.round()
    effects = driven.verdict(0, 2)

    assert [(t.token_id, t.text) for t in only(effects, Emit).tokens] == [(2, "")]
    assert closes(effects, FinishReason.STOP)


@pytest.mark.parametrize(("max_tokens", "length"), [(1, 0), (2, 1), (3, 2), (9, 3)])
def test_a_block_never_overshoots_max_tokens(max_tokens: int, length: int) -> None:
    """γ leaves room for the cloud's own token."""
    driven = Driven(max_tokens=max_tokens)

    assert only(driven.open(), Draft).max_draft_length == length


def test_max_tokens_ends_the_text() -> None:
    """Reason length."""
    driven = Driven(max_tokens=1)
    driven.open()
    driven.round()

    assert closes(driven.verdict(0), FinishReason.LENGTH)


def test_a_full_context_ends_the_text() -> None:
    """The smaller context of the two models counts."""
    driven = Driven()
    draft = only(driven.open(context_length=4), Draft)
    driven.round()

    assert draft.max_draft_length == 1
    assert closes(driven.verdict(1), FinishReason.CONTEXT)


def test_a_cancel_closes_the_session_and_flushes_the_held_text() -> None:
    """A partial stop match is text after all."""
    driven = Driven(stop=("cX",))
    driven.open()
    driven.round()
    driven.verdict(0, 2)
    effects = driven.step(Cancelled())

    assert only(effects, Send).message == Close(CloseReason.CANCELLED)
    assert finish_of(effects) == Finish(FinishReason.CANCELLED, "c")


def test_a_refusal_ends_the_text_with_its_error() -> None:
    """A status that no retry mends."""
    driven = Driven()
    driven.open()
    error = RemoteProtocolError("no.")

    assert finish_of(driven.step(Refused(error))).error is error


# --- the link -----------------------------------------------------------------------------------------------


def resume(driven: Driven, **changes: Any) -> list[EdgeEffect]:
    """A new stream and the cloud's answer on it."""
    driven.step(LinkRestored())
    return driven.step(OpenedReceived(opened(**{"epoch": 2, **changes})))


@pytest.mark.parametrize("next_round", [1, 2])
def test_a_pending_block_is_sent_again_as_the_same_bytes(next_round: int) -> None:
    """Whether the cloud has decided the round or not."""
    driven = Driven()
    driven.open()
    driven.round()
    first = driven.sent
    assert driven.step(LinkLost(LINK_ERROR)) == [ArmTimer(None), Reconnect(1)]
    effects = resume(driven, next_round=next_round)

    assert only(effects, Send).message is first


def test_a_resume_names_the_session_and_sends_no_prompt() -> None:
    """The prompt goes up once."""
    driven = Driven()
    driven.open()
    driven.step(LinkLost(LINK_ERROR))
    message = only(driven.step(LinkRestored()), Send).message

    assert isinstance(message, Open)
    assert (message.session_id, message.prompt_token_ids) == (bytes(16), ())


def test_a_block_drafted_while_the_link_is_down_goes_out_after_the_resume() -> None:
    """Drafting does not stop for the link, and is not repeated."""
    driven = Driven()
    driven.open()
    driven.step(LinkLost(LINK_ERROR))
    assert driven.round() == []
    effects = resume(driven)

    assert only(effects, Send).message.round == 1
    assert not [effect for effect in effects if isinstance(effect, Draft)]


def test_a_draft_still_under_way_at_the_resume_is_waited_for() -> None:
    """Nothing is sent until it is done."""
    driven = Driven()
    driven.open()
    driven.step(LinkLost(LINK_ERROR))

    assert resume(driven) == [ArmTimer(None)]
    assert only(driven.round(), Send).message.round == 1


def test_a_link_lost_before_opened_opens_afresh() -> None:
    """Without a session id there is nothing to resume."""
    driven = Driven()
    driven.step(Started())
    driven.step(LinkLost(LINK_ERROR))

    assert only(driven.step(LinkRestored()), Send).message.prompt_token_ids == PROMPT


@pytest.mark.parametrize("changes", [{"next_round": 3}, {"next_round": 0}, {"session_id": b"x" * 16}])
def test_a_session_resumed_elsewhere_ends_with_an_error(changes: dict[str, Any]) -> None:
    """A round that cannot be, or another session."""
    driven = Driven()
    driven.open()
    driven.round()
    driven.step(LinkLost(LINK_ERROR))

    assert isinstance(finish_of(resume(driven, **changes)).error, RemoteProtocolError)


def test_reconnects_go_on_while_the_patience_lasts_and_are_counted_anew_after_a_verdict() -> None:
    """The patience runs from the first loss; a loss behind its end ends the text with the last error."""
    driven = Driven(patience_s=10.0)
    driven.open()
    driven.round()
    driven.step(LinkLost(LINK_ERROR))
    resume(driven)
    driven.now += 9.0
    driven.verdict(0)
    attempts = []
    for pause_s in (5.0, 6.0, 3.9):
        driven.now += pause_s
        attempts.append(only(driven.step(LinkLost(LINK_ERROR)), Reconnect).attempt)
    driven.now += 0.1

    assert attempts == [1, 2, 3]
    assert finish_of(driven.step(LinkLost(LINK_ERROR))).error is LINK_ERROR


def test_without_patience_a_lost_link_ends_the_text() -> None:
    """patience_s = 0."""
    driven = Driven(patience_s=0.0)
    driven.open()

    assert finish_of(driven.step(LinkLost(LINK_ERROR))).error is LINK_ERROR


@pytest.mark.parametrize("phase", ["open", "round 1"])
def test_a_late_answer_is_a_lost_link(phase: str) -> None:
    """The deadline of open and of a round; with no reconnect left its error names the phase."""
    driven = Driven(patience_s=0.0)
    driven.step(Started())
    if phase != "open":
        driven.step(OpenedReceived(opened()))
        driven.round()
    error = finish_of(driven.step(TimerFired())).error

    assert isinstance(error, DeadlineError)
    assert phase in error.message


def test_a_session_that_is_lost_is_opened_again_from_what_is_committed() -> None:
    """The kept block goes out as the new session's first round, with the payload it had."""
    driven = Driven()
    driven.open()
    driven.round()
    driven.verdict(1)
    driven.round()
    sent = driven.sent
    assert sent is not None
    assert only(driven.step(Refused(SessionNotFoundError("gone."))), Reconnect).attempt == 1
    reopened = only(driven.step(LinkRestored()), Send).message
    committed = driven.session.committed_token_ids
    again = only(
        driven.step(
            OpenedReceived(opened(session_id=b"n" * 16, committed_length=len(committed), next_round=1))
        ),
        Send,
    ).message

    assert isinstance(reopened, Open)
    assert (reopened.session_id, reopened.prompt_token_ids) == (b"", committed)
    assert len(committed) == len(PROMPT) + 2
    assert again.round == 1
    assert (again.payload, again.base_length, again.prefix_hash) == (
        sent.payload,
        sent.base_length,
        sent.prefix_hash,
    )
    assert driven.session.tally.rebuilds == 1
    driven.verdict(0)
    assert len(driven.session.committed_token_ids) == len(committed) + 1


def test_a_session_lost_before_its_opened_came_is_opened_again() -> None:
    """Nothing was built on it, so this is no rebuild."""
    driven = Driven()
    driven.step(Started())
    driven.step(Refused(SessionNotFoundError("gone.")))
    reopened = only(driven.step(LinkRestored()), Send).message

    assert (reopened.session_id, reopened.prompt_token_ids) == (b"", PROMPT)
    assert driven.session.tally.rebuilds == 0


def test_a_session_lost_while_drafting_waits_for_the_draft() -> None:
    """Nothing is drafted twice; the block goes out when it is there."""
    driven = Driven()
    driven.open()
    attempt = driven.draft.attempt if driven.draft else None
    driven.step(Refused(SessionNotFoundError("gone.")))
    driven.step(LinkRestored())
    effects = driven.step(OpenedReceived(opened(session_id=b"n" * 16)))

    assert not [effect for effect in effects if isinstance(effect, Draft)]
    driven.round()
    assert driven.sent is not None
    assert driven.sent.round == 1
    assert driven.draft is not None
    assert driven.draft.attempt == attempt


def test_a_rounds_deadline_follows_from_the_rounds_before_it() -> None:
    """The first one has the longest; later ones what rounds took, with a floor."""
    driven = Driven(round_timeout_s=30.0, least_round_timeout_s=0.5)
    driven.open()
    deadlines = []
    for _ in range(4):
        driven.round()
        deadlines.append(only(driven.effects, ArmTimer).at_s - driven.now)
        driven.now += 1.0
        driven.verdict(0)

    assert deadlines[0] == 30.0
    assert all(2.0 <= seconds <= 10.0 for seconds in deadlines[1:])


@pytest.mark.parametrize("kind", [QuotaExceededError, ResourceExhaustedError])
def test_a_round_that_is_put_off_goes_out_again_as_the_same_bytes(kind: type[ResourceExhaustedError]) -> None:
    """A used-up quota, or a cloud without room: the pause asked for, a new stream, and no redraft."""
    driven = Driven()
    driven.open()
    driven.round()
    block = driven.sent
    put_off = driven.step(Refused(kind("later.", retry_after_s=1.5)))
    driven.now += 1.6
    resume = only(driven.step(LinkRestored()), Send).message
    resent = only(driven.step(OpenedReceived(opened(epoch=2))), Send).message
    driven.verdict(1)

    assert put_off == [ArmTimer(None), Reconnect(1, 1.5)]
    assert resume.session_id == bytes(16)
    assert resent == block
    assert driven.session.tally.reconnects == 1
    assert driven.draft is not None
    assert driven.draft.attempt == 1


@pytest.mark.parametrize("kind", [QuotaExceededError, ResourceExhaustedError])
def test_an_open_is_put_off_by_a_quota_and_by_a_full_cloud(kind: type[ResourceExhaustedError]) -> None:
    """The same Open comes again after the pause that the cloud asked for."""
    driven = Driven()
    driven.step(Started())
    put_off = driven.step(Refused(kind("later.", retry_after_s=1.0)))
    again = only(driven.step(LinkRestored()), Send).message

    assert put_off == [ArmTimer(None), Reconnect(1, 1.0)]
    assert again.prompt_token_ids == PROMPT


def test_being_put_off_ends_within_a_rounds_time() -> None:
    """However often; the time starts anew with every verdict, and no pause may reach beyond it."""
    driven = Driven(round_timeout_s=5.0)
    driven.open()
    for _ in range(2):
        driven.round()
        for epoch in range(driven.session.tally.reconnects + 2, driven.session.tally.reconnects + 6):
            assert isinstance(driven.step(Refused(QuotaExceededError("later.")))[-1], Reconnect)
            driven.now += 1.2
            driven.step(LinkRestored())
            driven.step(OpenedReceived(opened(epoch=epoch, next_round=driven.session.tally.rounds + 1)))
        driven.verdict(0)
    driven.round()
    driven.step(Refused(QuotaExceededError("later.", retry_after_s=4.0)))
    driven.now += 4.5
    driven.step(LinkRestored())
    driven.step(OpenedReceived(opened(epoch=100, next_round=3)))
    error = QuotaExceededError("later.", retry_after_s=1.0)

    assert finish_of(driven.step(Refused(error))).error is error


def test_what_no_retry_mends_is_not_put_off() -> None:
    """A refusal that names no pause, and our own drafting's want of memory."""
    told, drafting = Driven(), Driven()
    for driven in (told, drafting):
        driven.open()
    told.round()
    for driven, error in (
        (told, ResourceExhaustedError("too large.", retry_after_s=math.inf)),
        (drafting, ResourceExhaustedError("no memory.")),
    ):
        assert finish_of(driven.step(Refused(error))).error is error


def test_a_stream_overtaken_by_one_of_our_own_is_a_lost_link() -> None:
    """An Open on an abandoned stream may come late and supersede the live one; the edge resumes again."""
    driven = Driven()
    driven.open()
    driven.round()

    assert only(driven.step(Refused(EpochSupersededError("superseded."))), Reconnect).attempt == 1


def test_a_repeated_opened_is_ignored() -> None:
    """The same epoch again is no news; a newer one that was not asked for is an error."""
    driven = Driven()
    driven.open()

    assert driven.step(OpenedReceived(opened())) == []
    assert isinstance(finish_of(driven.step(OpenedReceived(opened(epoch=2)))).error, RemoteProtocolError)


# --- every state, every event -------------------------------------------------------------------------------

SMALL = st.integers(0, 7)
EVENTS = st.one_of(
    st.sampled_from([Started(), LinkRestored(), TimerFired(), Cancelled(), "drafted"]),
    st.builds(
        Opened,
        session_id=st.sampled_from([bytes(16), b"x" * 16]),
        epoch=SMALL,
        context_length=st.sampled_from([2, 3, 5, 64]),
        eos_token_ids=st.sampled_from([(), (5,)]),
        committed_length=st.integers(1, 4),
        next_round=SMALL,
    ).map(OpenedReceived),
    st.builds(
        Verdict,
        round=SMALL,
        accepted=st.integers(-1, 4),
        next_token_id=st.integers(-1, SIZE),
        committed_length=st.integers(0, 12),
    ).map(VerdictReceived),
    st.integers(0, 3).map(lambda accepted: ("verdict", accepted)),
    st.sampled_from([LINK_ERROR, DeadlineError("late.")]).map(LinkLost),
    st.sampled_from([EpochSupersededError("x."), ThinwireError("x.")]).map(Refused),
    st.sampled_from([QuotaExceededError("x."), ResourceExhaustedError("x.")]).map(Refused),
)
PATHS: dict[str, list[Any]] = {
    "new": [],
    "opening": [Started()],
    "drafting": [Started(), OpenedReceived(opened())],
    "verifying": [Started(), OpenedReceived(opened()), "drafted"],
    "second round": [Started(), OpenedReceived(opened()), "drafted", ("verdict", 1), "drafted"],
    "detached before opened": [Started(), LinkLost(LINK_ERROR)],
    "detached while drafting": [Started(), OpenedReceived(opened()), LinkLost(LINK_ERROR)],
    "detached with a draft": [Started(), OpenedReceived(opened()), LinkLost(LINK_ERROR), "drafted"],
    "detached with a round": [Started(), OpenedReceived(opened()), "drafted", LinkLost(LINK_ERROR)],
    "resuming": [Started(), OpenedReceived(opened()), "drafted", LinkLost(LINK_ERROR), LinkRestored()],
    "closed": [Started(), Cancelled()],
    "failed": [Started(), Refused(ThinwireError("x."))],
}


def take(driven: Driven, event: Any) -> list[EdgeEffect] | None:
    """Step; None for the documented error, which must leave the state as it was."""
    if event == "drafted":
        if driven.draft is None:
            return []
        event = driven.drafted()
    elif isinstance(event, tuple):
        if driven.sent is None:
            return []
        accepted = event[1]
        block = driven.sent
        event = VerdictReceived(Verdict(block.round, accepted, 2, block.base_length + accepted + 1))
    before = driven.session.state
    try:
        effects = driven.step(event)
    except LocalProtocolError:
        assert driven.session.state is before
        return None
    if before in TERMINAL:
        assert effects == []
    else:
        ends = [effect for effect in effects if isinstance(effect, Finish)]
        assert len(ends) == (driven.session.state in TERMINAL)
        assert not ends or effects[-1] is ends[0]
    return effects


@pytest.mark.parametrize("name", PATHS)
@settings(derandomize=True, max_examples=60, deadline=None)
@given(events=st.lists(EVENTS, min_size=1, max_size=6))
def test_every_event_in_every_state_has_effects_or_the_documented_error(name: str, events: list[Any]) -> None:
    """From each state, any events: effects, or LocalProtocolError that moves nothing; the end comes once."""
    driven = Driven()
    for event in PATHS[name]:
        assert take(driven, event) is not None

    for event in events:
        take(driven, event)


def test_the_paths_reach_every_state() -> None:
    """The property above starts from each state of the table (IDLE is where the edge drafts)."""
    reached = set()
    for path in PATHS.values():
        driven = Driven()
        for event in path:
            take(driven, event)
        reached.add(driven.session.state)

    assert reached == set(State)
