"""The work in the target model's thread: the cache's length, the law of p, and its end."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from fakes import TableModel
from thinwire.cloud.batch_queue import PassWork
from thinwire.cloud.events import Score
from thinwire.cloud.verifier import Verifier
from thinwire.common.config import SamplingParameters
from thinwire.common.errors import LocalProtocolError, PayloadInvalidError, SessionNotFoundError
from thinwire.common.law.distributions import warp
from thinwire.common.law.draft_token import DraftToken
from thinwire.common.law.random_streams import KeyedDraws
from thinwire.common.law.speculative import verify_block
from thinwire.common.law.steps import finished
from thinwire.common.schemes import make_scheme
from verify_peer import SIZE, TARGET, EdgeText

PROMPT = (0, 1, 2)
SCHEME = make_scheme(EdgeText().open.scheme, vocabulary_size=SIZE)


def make_verifier(
    model: TableModel | None = None, sampling: SamplingParameters | None = None
) -> tuple[Verifier, TableModel]:
    """A verifier whose prompt is fed but for its last token."""
    model = model or TableModel(TARGET)
    verifier = Verifier(model, SCHEME, sampling or SamplingParameters(), KeyedDraws(7))
    alone(model, verifier.prefilling(PROMPT[:-1], cached=0))
    return verifier, model


def alone(model: TableModel, work: PassWork) -> Any:
    """The outcome of work in a pass of its own."""
    (rows,) = model.extend_batch([work.begin()])
    assert not isinstance(rows, Exception), rows
    return work.finish(rows)


def score_of(block_tokens: tuple[DraftToken, ...], *, last: int = PROMPT[-1], first: int = 3) -> Score:
    """The effect that scores a block."""
    return Score(1, (last, *(token.token_id for token in block_tokens)), block_tokens, first)


def test_a_block_is_decided_as_the_rule_says() -> None:
    """Decode and score give what `verify_block` gives for the warped float64 rows of the target."""
    sampling = SamplingParameters(temperature=0.7, top_k=4)
    verifier, model = make_verifier(sampling=sampling)
    tokens = finished(verifier.decoding(EdgeText().block(4)))
    ids = tuple(token.token_id for token in tokens)
    with np.errstate(divide="ignore"):
        rows = [warp(np.log(TARGET((*PROMPT, *ids[:n]))), sampling) for n in range(5)]

    expected = verify_block(rows, tokens, KeyedDraws(7), first_position=3)
    assert alone(model, verifier.scoring(score_of(tokens))) == expected


def test_a_payload_that_decodes_to_nothing_legal_is_refused() -> None:
    """The error passes through as it is."""
    text = EdgeText()
    block = text.block(2)
    verifier, _ = make_verifier()

    with pytest.raises(PayloadInvalidError):
        finished(verifier.decoding(text.sealed(block, payload=block.payload + b"\0")))


def test_an_empty_block_gives_the_targets_own_token() -> None:
    """γ = 0: one row, one bonus token."""
    verifier, model = make_verifier()
    outcome = alone(model, verifier.scoring(score_of(())))

    assert (outcome.accepted, outcome.resampled) == (0, False)


def test_the_cache_is_rolled_back_before_the_next_pass() -> None:
    """After a rejection the rejected tokens are out of the cache, and the next rows know nothing of them."""
    seen: list[tuple[int, ...]] = []

    def law(prefix: tuple[int, ...]) -> npt.NDArray[Any]:
        seen.append(prefix)
        return TARGET(prefix)

    verifier, model = make_verifier(TableModel(law, vocabulary_size=SIZE))
    alone(model, verifier.scoring(score_of(finished(verifier.decoding(EdgeText().block(4))))))
    verifier.sequence.truncate(3)
    seen.clear()
    alone(model, verifier.scoring(score_of((), last=5, first=4)))

    assert seen == [(0, 1, 2, 5)]


def test_rows_behind_a_rejection_are_never_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """A target that excludes the first drafted token has one row warped, not five."""
    tokens = finished(make_verifier()[0].decoding(EdgeText().block(4)))
    point = np.zeros(SIZE)
    point[(tokens[0].token_id + 1) % SIZE] = 1.0
    verifier, model = make_verifier(TableModel(lambda prefix: point, vocabulary_size=SIZE))
    warped = []

    def counted(logits: npt.NDArray[Any], sampling: SamplingParameters) -> npt.NDArray[Any]:
        warped.append(logits)
        return warp(logits, sampling)

    monkeypatch.setattr("thinwire.cloud.verifier.warp", counted)
    outcome = alone(model, verifier.scoring(score_of(tokens)))

    assert outcome.accepted == 0
    assert len(warped) == 1


def test_close_frees_the_cache_once() -> None:
    """Nothing is open afterwards; closing what was never opened is harmless."""
    verifier, model = make_verifier()
    assert model.open_sequences == 1
    verifier.sequence.close()
    verifier.sequence.close()
    unused = Verifier(model, SCHEME, SamplingParameters(), KeyedDraws(7))
    unused.sequence.close()

    assert model.open_sequences == 0


def test_work_in_line_when_the_session_ends_opens_no_new_cache() -> None:
    """A prompt's next piece, or a pass, that comes to its turn after the end is refused."""
    verifier, model = make_verifier()
    tokens = finished(verifier.decoding(EdgeText().block(2)))
    verifier.abandon()
    verifier.sequence.close()

    with pytest.raises(SessionNotFoundError):
        verifier.prefilling(PROMPT, cached=0).begin()
    with pytest.raises(SessionNotFoundError):
        verifier.scoring(score_of(tokens)).begin()
    assert model.open_sequences == 0


@pytest.mark.parametrize("fed", [(), PROMPT[:1], PROMPT], ids=["nothing", "too little", "too much"])
def test_a_cache_that_is_not_what_the_session_believes_is_never_scored(fed: tuple[int, ...]) -> None:
    """The round fails with the two lengths; a target that saw another text would decide it otherwise."""
    model = TableModel(TARGET)
    verifier = Verifier(model, SCHEME, SamplingParameters(), KeyedDraws(7))
    if fed:
        alone(model, verifier.prefilling(fed, cached=0))

    with pytest.raises(LocalProtocolError, match=rf"the cache holds {len(fed)} tokens; expected 2\."):
        verifier.scoring(score_of(())).begin()
    with pytest.raises(LocalProtocolError):
        verifier.prefilling(PROMPT, cached=len(fed) + 1).begin()
