"""
What a text should take, in closed form, from what was measured; pure.

Rounds, with acceptance a and blocks of γ tokens:

    tokens a pass = (1 - aᵞ⁺¹) / (1 - a)
    seconds of a round = γ · draft token + round trip + pass

A cloud that writes by itself, with match rate a. Behind a wrong guess the next right ones are due after
h = round trip + a block's drafting. The n = h / pass tokens that are written meanwhile come without help, and
guesses help only once n in a row were right: that takes (a⁻ⁿ - 1) / (1 - a) tokens, a pass each. From there
on 1 / (1 - a) tokens come until the next wrong guess, in 1 / (1 - aᵏ⁺¹) passes, where k guesses wait for a
pass. A target that waits for the guesses writes fewer tokens without help, and loses the time.

Left out: the first pass, texts that end early, copied hints, and that guesses are likelier in one place than
in another.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from thinwire.common.session.free_run import MAX_HINT_ROWS, WAIT_PASSES, WAIT_SHARE
from thinwire.common.session.hit_rate import FADED

LEAST_BLOCK = 0.2
"""A block ends where it is less likely than this, unless it was asked for otherwise."""
_SUREST = 0.99


@dataclass(frozen=True, slots=True)
class Times:
    """Seconds, each more than 0."""

    pass_s: float
    """Of a target pass, with the wait for the model."""
    round_trip_s: float
    """Of the link; of rounds with their bytes."""
    draft_token_s: float


@dataclass(frozen=True, slots=True)
class Forecast:
    """Of a long text."""

    tokens_per_pass: float
    tokens_per_s: float


def rounds(times: Times, acceptance: float, draft_length: float) -> Forecast:
    """
    Rounds of one block each.

    Args:
        acceptance: of tested tokens, 0 to 1.
        draft_length: mean γ, from 0.
    """
    rate = min(acceptance, _SUREST)
    tokens = (1 - rate ** (draft_length + 1)) / (1 - rate)
    seconds = draft_length * times.draft_token_s + times.round_trip_s + times.pass_s
    return Forecast(tokens, tokens / seconds)


def free_run(times: Times, match_rate: float, block: float, *, saves_passes: bool) -> Forecast:
    """
    A target that writes by itself.

    Args:
        match_rate: right guesses of judged ones, 0 to 1.
        block: guesses that go up at once, of those behind a wrong one; 0 for none ever.
        saves_passes: whether the target waits for guesses whatever time it takes.
    """
    rate = min(match_rate, _SUREST)
    if rate < FADED or block == 0:
        return Forecast(1.0, 1 / times.pass_s)
    due = (times.round_trip_s + block * times.draft_token_s) / times.pass_s
    meanwhile = min(
        MAX_HINT_ROWS, block, math.log(FADED) / math.log(rate), times.pass_s / times.draft_token_s
    )
    helped = 1 / (1 - rate), 1 / (1 - rate ** (max(1.0, meanwhile) + 1))
    if saves_passes:
        alone = max(0, math.ceil(due - WAIT_PASSES))
        return _cycle(times, rate, alone, due - alone if alone == 0 else WAIT_PASSES, helped)
    ways = [_cycle(times, rate, math.ceil(due), 0.0, helped)]
    if due - math.floor(due) <= WAIT_SHARE:
        ways.append(_cycle(times, rate, math.floor(due), due - math.floor(due), helped))
    return max(ways, key=lambda way: way.tokens_per_s)


def reach(rate: float, longest: int) -> int:
    """Tokens of a block that ends where it is unlikely as a whole; at most `longest`, which may be 0."""
    likely = min(max(rate, LEAST_BLOCK), _SUREST)
    return min(longest, math.ceil(math.log(LEAST_BLOCK) / math.log(likely)))


def _cycle(times: Times, rate: float, alone: int, waited: float, helped: tuple[float, float]) -> Forecast:
    """From one wrong guess to the next; `waited` is in passes, `helped` tokens and passes with guesses."""
    tokens, passes = helped
    if alone * math.log10(1 / rate) > 9:
        return Forecast(1.0, 1 / times.pass_s)
    without = (rate**-alone - 1) / (1 - rate)
    tokens, passes = tokens + without, passes + without
    return Forecast(tokens / passes, tokens / ((passes + waited) * times.pass_s))
