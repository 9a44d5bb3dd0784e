"""Long computations in steps: a generator that yields nothing but the chance to do something else."""

from __future__ import annotations

from collections.abc import Generator
from typing import TypeVar

Outcome = TypeVar("Outcome")

Steps = Generator[None, None, Outcome]
"""Yields whenever some tenths of a millisecond may have gone by; returns the outcome."""


def finished(steps: Steps[Outcome]) -> Outcome:
    """The outcome, all steps taken at once."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            outcome: Outcome = end.value
            return outcome
