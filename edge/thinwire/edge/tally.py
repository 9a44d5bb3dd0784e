"""Adds up the rounds of one generation."""

from __future__ import annotations

from dataclasses import fields

from thinwire.common.session.statistics import GenerationStatistics, RoundMeasured

_OF_A_ROUND = {field.name for field in fields(RoundMeasured)} | set(dir(RoundMeasured))
_OF_EVERY_MESSAGE = {"uplink_message_bytes", "downlink_message_bytes"}
SUMS = tuple(
    field.name
    for field in fields(GenerationStatistics)
    if field.name in _OF_A_ROUND and field.name not in _OF_EVERY_MESSAGE
)
"""Statistics that are sums over the rounds."""


class Tally:
    """
    One generation's.

    Args:
        statistics: counted up.
    """

    def __init__(self, statistics: GenerationStatistics) -> None:
        self.statistics = statistics
        self._dropped_mass = 0.0
        self._cap_bound_positions = 0

    def add(self, measured: RoundMeasured) -> None:
        """One more round: positions after the first rejection were drafted, but neither tested nor kept."""
        s = self.statistics
        s.rounds += 1
        for name in SUMS:
            setattr(s, name, getattr(s, name) + getattr(measured, name))
        for dropped_mass in measured.dropped_masses[: measured.kept_positions]:
            self._dropped_mass += dropped_mass
        self._cap_bound_positions += measured.cap_bound_positions
        if s.kept_positions:
            s.mean_dropped_mass = self._dropped_mass / s.kept_positions
            s.cap_binding_rate = self._cap_bound_positions / s.kept_positions
