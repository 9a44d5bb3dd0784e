"""Every input that fuzzing kept still passes, and the targets do notice what they are for."""

from __future__ import annotations

from pathlib import Path

import pytest

from fuzz import targets
from fuzz.targets import SCHEMES, TARGETS
from thinwire.common.law.draft_token import DraftToken, QuantizedDistribution
from thinwire.common.schemes.k_sqs import KSqs

CORPUS = Path(__file__).parent / "corpus"
EMPTY_BLOCK = bytes([0, 0, 0, 0, 0])


@pytest.mark.parametrize("target", TARGETS)
def test_the_kept_corpus_passes(target: str) -> None:
    """Inputs that once reached new code."""
    inputs = sorted((CORPUS / target).iterdir())
    assert len(inputs) > 30

    for path in inputs:
        TARGETS[target](path.read_bytes())


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("data", [b"", b"\xff", bytes(4096), b"\xff" * 4096])
def test_extreme_inputs_pass(target: str, data: bytes) -> None:
    """Nothing, one byte, and the longest input of one value."""
    TARGETS[target](data)


def test_a_session_reaches_decided_rounds() -> None:
    """Rounds with a true header get through to a verdict; otherwise little would be fuzzed."""
    served = targets._Served(0, seed=1)
    for _ in range(3):
        served.take(2, b"")

    assert served.session.rounds == 3
    assert len(served.committed) == len(targets.PROMPT) + 3


def test_a_decoder_that_leaves_the_vocabulary_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    """A planted defect."""
    scheme = targets._scheme(0, targets.VOCABULARY_SIZES[0])
    assert isinstance(scheme, KSqs)
    outside = QuantizedDistribution(
        targets.np.array([scheme.vocabulary_size]), targets.np.array([SCHEMES[0].lattice_resolution]), 100
    )
    monkeypatch.setattr(scheme, "decode", lambda *_, **__: (DraftToken(outside, 0),))

    with pytest.raises(AssertionError, match="outside the vocabulary"):
        targets.payload(bytes([0, 0, 1, 0, 0]))


def test_a_session_that_shares_state_with_another_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    """A planted defect: the shared scheme remembers what it decoded."""
    scheme = targets._scheme(0, targets.SESSION_VOCABULARY_SIZE)
    targets.cloud_session(EMPTY_BLOCK)
    rounds: list[object] = []

    def verify(rows: object, tokens: object, draws: object, *, first_position: int) -> object:
        rounds.append(tokens)
        return KSqs.verify(scheme, rows, tokens, draws, first_position=first_position + len(rounds))  # type: ignore[arg-type]

    monkeypatch.setattr(scheme, "verify", verify)
    with pytest.raises(AssertionError, match="another session noticed"):
        targets.cloud_session(bytes([0, 2, 0, 2, 0, 2, 0]))
