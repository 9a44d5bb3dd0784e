"""How long a generation goes on trying: after a loss of the link, and for a quota or room at the cloud."""

from __future__ import annotations


class Patience:
    """
    Both waits start anew with every verdict.

    Args:
        loss_s: seconds to go on reconnecting after a loss.
        put_off_s: seconds to wait in all when the cloud asks to come again later.
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
        """A verdict came."""
        self._lost_at_s = self._give_up_at_s = None
        self.tries = 0
