"""How long a generation waits: for a round, for a link that is lost, and for a quota or room at the cloud."""

from __future__ import annotations

_SAFETY = 2.0
"""A late round is cheap to wait for and dear to repeat."""
_AROUND_BYTES = 128
"""What a block costs on the wire beside its payload, about."""


class Patience:
    """
    How long to go on reconnecting after a loss, and to wait in all when the cloud asks to come again later.

    Both waits start anew with every verdict.
    """

    def __init__(self, loss_s: float, put_off_s: float) -> None:
        self._loss_s = loss_s
        self._put_off_s = put_off_s
        self._lost_at_s: float | None = None
        self._give_up_at_s: float | None = None
        self.tries = 0
        """Streams lost since the last verdict."""

    def after_loss(self, now: float) -> bool:
        """Whether to open another stream after one was lost; counts the loss."""
        if self._lost_at_s is None:
            self._lost_at_s = now
        if now - self._lost_at_s >= self._loss_s:
            return False
        self.tries += 1
        return True

    def for_pause(self, pause_s: float, now: float) -> bool:
        """Whether to come again after a pause that the cloud asks for."""
        if self._give_up_at_s is None:
            self._give_up_at_s = now + self._put_off_s
        return now + pause_s <= self._give_up_at_s

    def opened(self) -> None:
        """The cloud took the session: what it had put off is over."""
        self._give_up_at_s = None

    def decided(self) -> None:
        self._lost_at_s = self._give_up_at_s = None
        self.tries = 0


class RoundDeadline:
    """
    A deadline that follows from bytes, rates and round-trip time, as far as rounds show them.

    A smoothed round time and its mean deviation, as in TCP's retransmission timer (RFC 6298), taken in
    proportion to the bytes of the block where it is larger than usual; doubled with every repeat.

    Args:
        least_s: never below this many seconds.
        most_s: never above, and the deadline as long as nothing was measured.
    """

    def __init__(self, least_s: float, most_s: float) -> None:
        self._least_s = min(least_s, most_s)
        self._most_s = most_s
        self._smoothed_s = 0.0
        self._deviation_s = 0.0
        self._mean_bytes = 0.0

    def took(self, seconds: float, size_bytes: int) -> None:
        """A round of `size_bytes` of payload took this long, from its first sending to its verdict."""
        size_bytes += _AROUND_BYTES
        if not self._mean_bytes:
            self._smoothed_s, self._deviation_s, self._mean_bytes = seconds, seconds / 2, float(size_bytes)
            return
        self._deviation_s += (abs(seconds - self._smoothed_s) - self._deviation_s) / 4
        self._smoothed_s += (seconds - self._smoothed_s) / 8
        self._mean_bytes += (size_bytes - self._mean_bytes) / 8

    def seconds(self, size_bytes: int, repeats: int = 0) -> float:
        """The deadline of a round of `size_bytes` of payload that was sent `repeats` times before."""
        if not self._mean_bytes:
            return self._most_s
        usual_s = self._smoothed_s + 4 * self._deviation_s
        larger = max(1.0, (size_bytes + _AROUND_BYTES) / self._mean_bytes)
        expected_s: float = _SAFETY * usual_s * larger * 2 ** min(repeats, 20)
        return min(self._most_s, max(self._least_s, expected_s))
