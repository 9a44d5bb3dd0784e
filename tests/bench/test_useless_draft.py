"""The measurements of a useless draft and of predictions: what they count, by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bench import explained, useless_draft
from thinwire.common import demo_pair
from thinwire.edge.explanation import Explanation


def test_a_rate_counts_from_the_arrival_that_makes_the_learning_whole() -> None:
    """30 tokens, then 3 that pass 32, then 8 in 4 s."""
    arrivals = [(1.0, 30, 1), (2.0, 3, 2), (4.0, 4, 3), (6.0, 4, 4)]

    assert useless_draft.rate(arrivals) == pytest.approx(2.0)


def test_a_request_has_a_users_defaults() -> None:
    """Nothing but length, temperature, seed and the scheme's parameters at that temperature is said."""
    asked = useless_draft.request("c-sqs", 1.0, "p", 7, 9)

    assert set(asked) == {"prompt", "seed", "max_tokens", "ignore_eos", "scheme", "sampling"}
    assert asked["scheme"].startswith("c-sqs:")


@pytest.mark.parametrize("kind", useless_draft.DRAFTS)
def test_a_useless_draft_says_another_id(kind: str, tmp_path: Path) -> None:
    """After texts that the bundled draft goes on with; its shape and tokenizer are the bundled one's."""
    from thinwire.common.language_model import load_language_model

    useless_draft.make_draft(kind, tmp_path / kind)
    bundled = load_language_model(str(demo_pair.draft_path()))
    made = load_language_model(str(tmp_path / kind))
    best = []
    for model in (bundled, made):
        sequence = model.open_sequence()
        prompt = model.vocabulary.encode("def is_prime(n):\n    for i in range(2, n):\n        if n %")
        best.append(sequence.extend(prompt, logit_rows=len(prompt)).argmax(axis=1))
        sequence.close()

    assert made.vocabulary.identity == bundled.vocabulary.identity
    assert (best[0] == best[1]).mean() < 0.1


def test_a_row_of_predictions_has_means_and_the_range_of_ratios() -> None:
    """Two texts, 10 and 20 predicted, 20 tokens/s seen."""

    def one(speed: float) -> Explanation:
        numbers: dict[str, Any] = {"tokens_per_pass": 2.0, "tokens_per_s": speed}
        return Explanation(
            "k-sqs", "", {"acceptance_rate": 0.5}, {}, numbers, {**numbers, "tokens_per_s": 20.0}
        )

    shown = explained.row([one(10.0), one(20.0)])

    assert shown == ["0.50", "2.00", "2.00", "15.0", "20.0", "0.75 (0.50 to 1.00)"]
    assert len(explained.HEAD) == 3 + len(shown)
