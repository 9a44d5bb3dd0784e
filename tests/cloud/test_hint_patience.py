"""When the target waits for a hint: the closed form by its cases, its bounds, and what it learns."""

from __future__ import annotations

import pytest

from thinwire.cloud.hint_patience import HintPatience
from thinwire.common.session.free_run import WAIT_SHARE


def learnt(*, pass_s: float = 0.06, hint_s: float = 0.02, hints: int = 6, **options: bool) -> HintPatience:
    """One that has seen a pass and a hint, and whose store is empty at 10 s."""
    made = HintPatience(**options)
    made.passed(pass_s, 1)
    made.is_empty(0.0)
    made.came(hints, hint_s)
    made.is_empty(10.0)
    return made


def test_nothing_is_waited_for_before_anything_was_measured() -> None:
    """No pass, no hint, or hints that are here."""
    fresh = HintPatience()
    fresh.is_empty(0.0)
    assert fresh.wait_s(0.9, 0.0) == 0
    fresh.passed(0.06, 1)
    assert fresh.wait_s(0.9, 0.0) == 0
    fresh.came(6, 0.02)
    assert fresh.wait_s(0.9, 0.1) == 0


@pytest.mark.parametrize(
    ("hint_s", "hit_rate", "waits"),
    [
        (0.005, 0.9, True),
        (0.02, 0.9, True),  # (1 + 4.2) / 80 ms against (2 + 3.3) / 120 ms
        (0.025, 0.3, False),  # (1 + 0.43) / 85 ms against (2 + 0.13) / 120 ms
        (0.005, 0.3, True),  # (1 + 0.43) / 65 ms
        (0.07, 0.9, False),  # it comes behind the next pass
        (0.04, 0.9, False),  # longer than half a pass
    ],
)
def test_the_target_waits_where_that_makes_more_tokens_a_second(
    hint_s: float, hit_rate: float, waits: bool
) -> None:
    """By the module's formula, with passes of 60 ms and six hints a message."""
    assert (learnt(hint_s=hint_s).wait_s(hit_rate, 10.0) > 0) is waits


def test_no_wait_is_longer_than_its_share_of_a_pass() -> None:
    """Whatever was measured."""
    for hint_s in (0.001, 0.01, 0.029, 0.03):
        assert learnt(hint_s=hint_s).wait_s(0.95, 10.0) <= WAIT_SHARE * 0.06


def test_hints_for_places_that_are_written_meanwhile_are_worth_less() -> None:
    """After five of six places nothing is left to wait for."""
    made = learnt(hint_s=0.02)
    made.passed(0.06, 6)
    assert made.wait_s(0.9, 10.001) == 0


def test_a_hint_that_does_not_come_is_waited_for_no_more() -> None:
    """Every wait in vain doubles the time that it is expected to take."""
    made = learnt(hint_s=0.02)
    waits = 0
    while made.wait_s(0.9, 10.0) > 0:
        made.in_vain()
        made.is_empty(10.0)
        waits += 1
    assert 1 <= waits <= 3


def test_where_few_passes_matter_the_target_waits_for_a_far_edge_too() -> None:
    """150 ms behind passes of 60 ms; not for hints that are never right."""
    assert learnt(hint_s=0.15).wait_s(0.8, 10.0) == 0
    assert learnt(hint_s=0.15, saves_passes=True).wait_s(0.8, 10.0) > 0.15
    assert learnt(hint_s=0.15, hints=0, saves_passes=True).wait_s(0.8, 10.0) == 0
