"""
Settings as frozen dataclasses, checked when made, and the limits both ends enforce.

Environment variables and argv are read by the command lines only; everything below is plain data.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from thinwire.common.errors import ConfigError

MAX_DRAFT_LENGTH = 64
"""Draft tokens a round; 64 keeps a block's decoding bounded, and acceptance makes longer blocks pointless."""
MAX_SUPPORT_SIZE = 256
"""Support points a drafted token (K and K_max) of a sparse scheme."""
MAX_LATTICE_RESOLUTION = 4096
"""Lattice resolution of a sparse scheme; beyond it quantisation error is far below any dropped mass."""
MAX_ROUND_BYTES = 256 * 1024
"""Serialised bytes of one round."""
MAX_PROMPT_BYTES = 1024 * 1024
"""Of a prompt in UTF-8, whatever the context: about 250 000 tokens, and seconds of a tokenizer's time."""
MAX_SECONDS = 86_400
"""Of any time that a daemon or client is told to wait; the timers below have limits of their own."""
MAX_SEED = 2**64 - 1
MIN_TEMPERATURE = 0.01
MAX_TEMPERATURE = 10.0


def check_integer(name: str, value: object, low: int, high: int) -> None:
    """
    Refuse `value` unless it is an integer in [low, high].

    Raises:
        ConfigError: naming the value received and the range expected.
    """
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        sentence = f"{name} is {value!r}; expected an integer from {low} to {high}."
        raise ConfigError(sentence, setting=name.partition(" ")[0])


def check_real(name: str, value: object, expected: str, ok: bool) -> None:
    """
    Refuse `value` unless it is a finite number and `ok` holds.

    Raises:
        ConfigError: naming the value received and the range expected.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not (math.isfinite(value) and ok):
        raise ConfigError(f"{name} is {value!r}; expected {expected}.", setting=name.partition(" ")[0])


def check_seconds(name: str, value: object, *, or_none: bool = False) -> None:
    """
    Refuse `value` unless it is a time to wait: more than 0 seconds and at most a day.

    Args:
        or_none: take 0 too, for no time at all.

    Raises:
        ConfigError: naming the value received and the range expected.
    """
    ok = isinstance(value, (int, float)) and (0 < value <= MAX_SECONDS or (or_none and value == 0))
    check_real(name, value, f"{'0' if or_none else 'more than 0'} to {MAX_SECONDS} seconds", ok)


@dataclass(frozen=True, slots=True)
class SamplingParameters:
    """Warping of both models' logits, in transformers' order: temperature, then top-k, then top-p."""

    temperature: float = 1.0
    """0 is greedy (ties to the smaller id), otherwise 0.01 to 10."""
    top_k: int = 0
    """Keep the k most likely tokens; 0 keeps all."""
    top_p: float = 1.0
    """Keep the smallest set of most likely tokens whose mass reaches top_p; in (0, 1]."""

    def __post_init__(self) -> None:
        t, p = self.temperature, self.top_p
        expected = f"0 (greedy) or {MIN_TEMPERATURE} to {MAX_TEMPERATURE:g}"
        check_real("temperature", t, expected, t == 0 or MIN_TEMPERATURE <= t <= MAX_TEMPERATURE)
        check_integer("top_k", self.top_k, 0, 2**31 - 1)
        check_real("top_p", p, "a number in (0, 1]", 0 < p <= 1)
