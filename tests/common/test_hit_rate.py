"""How often drafts were right: a useless one fades within 32 tokens, and comes back when right again."""

from __future__ import annotations

import pytest

from thinwire.common.session.hit_rate import HitRate


def test_a_useless_draft_fades_within_32_tokens() -> None:
    """And one that is right now and then does not."""
    useless, middling = HitRate(), HitRate()
    for n in range(32):
        useless.note(False)
        middling.note(n % 3 == 0)

    assert useless.is_faded
    assert not middling.is_faded


def test_a_faded_draft_comes_back_with_its_first_right_token() -> None:
    """It was tried once in many tokens only, so that one says much."""
    rate = HitRate(0.0)
    assert rate.note(True)
    assert not rate.is_faded


@pytest.mark.parametrize(
    ("value", "depth"), [(0.0, 0), (0.05, 1), (0.12, 1), (0.5, 4), (0.75, 10), (0.9, 28)]
)
def test_a_draft_is_worth_while_as_far_as_it_is_right_often_enough(value: float, depth: int) -> None:
    """rate^depth is at least the price."""
    assert HitRate(value).depth(0.05) == depth


def test_a_draft_that_is_always_right_may_be_as_long_as_it_likes() -> None:
    """No logarithm of 1 is divided by."""
    assert HitRate(1.0).depth(0.05) >= 64
